"""One person's way to a pair: add, license, pair; wrong inputs between; and to its end: a machine
is stopped, a new one is waited for, one that was set aside rejoins, writes that wait are let go on,
a machine that boots alone is told to serve, the pair is dissolved while both machines are well.

How a pair lives on and ends is told on real machines: tests/lab/test_product_console.py.
"""

from pathlib import Path
from typing import Any

import pytest
from issuer import Issuer
from live_pair import PASSWORD, Site
from msgspec.structs import replace
from stage import ConsoleProcess, axe_faults

IS_PAIRED = False


def _wizard(page: Any, console: ConsoleProcess, name: str, port: str) -> None:
    page.goto(f"{console.url}/engines/new")
    page.fill("#f-name", name)
    page.fill("#f-address", "127.0.0.1")
    page.fill("#f-port", port)
    page.click("button:has-text('Connect')")


@pytest.mark.timeout(180)
def test_from_nothing_to_a_pair(page: Any, console: ConsoleProcess, site: Site, root: Path) -> None:
    """In the order in which it happens to people."""
    issuer = Issuer(root / "issuer")
    issuer.trusted_by(site.nodes["mse1"].config)
    assert page.locator("text=No engines yet").count() == 1
    _wizard(page, console, "mse1", "1")
    assert "Nothing listens at" in page.locator(".problem").inner_text()
    assert page.input_value("#f-name") == "mse1"
    page.fill("#f-port", "seven")
    page.click("button:has-text('Connect')")
    page.wait_for_selector("#fh-port:has-text('A port is a number')")

    page.fill("#f-port", str(site.nodes["mse1"].port))
    page.click("button:has-text('Connect')")
    page.wait_for_url("**/trust")
    shown = page.locator(".fingerprint").inner_text()
    assert shown == site.nodes["mse1"].serve_fingerprint()
    page.check("input[name=confirmed]")
    page.click("button:has-text('Continue')")
    page.wait_for_url("**/claim")
    page.fill("#f-user", "admin")
    page.fill("#f-password", "not the password")
    page.click("button:has-text('Add this engine')")
    page.wait_for_selector(".problem")
    assert page.locator(".problem").count() == 1
    page.fill("#f-user", "admin")
    page.fill("#f-password", PASSWORD)
    page.click("button:has-text('Add this engine')")
    _license(page, site, issuer)
    page.wait_for_selector("h1:has-text('mse1')")
    page.wait_for_selector("#engine-reach:has-text('Reachable')")

    _pair(page, console, site)
    _stop_the_standby(page, console)
    _wait_for_a_new_machine(page, console, site)
    _rejoin(page, console, site)
    _without_a_witness(page, console, site)
    _unpair(page, console, site)


def _license(page: Any, site: Site, issuer: Issuer) -> None:
    page.wait_for_url("**/licensing")
    assert "No licence is needed to go on" in page.locator("main").inner_text()
    assert axe_faults(page) == []
    udi = page.locator(".fingerprint").inner_text()
    damaged = issuer.file(udi, "activation")
    damaged.write_text(damaged.read_text().replace("City", "Town"))
    page.set_input_files("#f-file", damaged)
    page.click("button:has-text('Install')")
    page.wait_for_selector(".problem:has-text('was changed after it was signed')")
    page.set_input_files("#f-file", issuer.file(udi, "activation"))
    page.click("button:has-text('Install')")
    page.wait_for_selector(".tip:has-text('is installed: activation')")
    page.click("text=Continue")
    page.wait_for_url("**/done")
    assert axe_faults(page) == []
    page.click("text=To the engine")


def _pair(page: Any, console: ConsoleProcess, site: Site) -> None:
    page.click("text=Pair with a secondary")
    page.fill("#f-name", "mse2")
    page.fill("#f-address", "127.0.0.1")
    page.fill("#f-port", str(site.nodes["mse2"].port))
    page.click("button:has-text('Continue')")
    page.wait_for_url("**/trust")
    page.check("input[name=confirmed]")
    page.click("button:has-text('Continue')")
    page.wait_for_url("**/claim")
    page.fill("#f-user", "admin")
    page.fill("#f-password", PASSWORD)
    page.click("button:has-text('Continue')")
    page.wait_for_url("**/activation")
    assert axe_faults(page) == []
    page.click("text=Continue without activation")
    page.wait_for_url("**/pair")
    page.fill("#f-failover_wait_s", "2")
    page.fill("#f-witness_address", "10.10.10.13")
    page.fill("#f-witness_password", "the witness's own password")
    page.click("button:has-text('Pair mse1 with mse2')")
    page.wait_for_url("**/actions/*")
    page.wait_for_selector("#action-state:has-text('done')", timeout=40_000)
    steps = page.locator("#action-steps").inner_text()
    assert "synchronization" in steps
    assert "certificates" in steps


def _confirm(page: Any, wrong: str, right: str) -> None:
    """The last button of a dialog can be pressed once the machine's name stands there."""
    page.fill("#d-confirm", wrong)
    assert page.is_disabled("dialog [data-final]")
    page.fill("#d-confirm", right)
    page.click("dialog [data-final]:enabled")


def _opened(page: Any, title: str) -> None:
    """A dialog is open, and whoever presses Enter by habit has cancelled it."""
    page.wait_for_selector(f"dialog[open] h2:has-text('{title}')")
    assert page.evaluate("document.activeElement.textContent") == "Cancel"


def _done(page: Any) -> str:
    page.wait_for_url("**/actions/*")
    page.wait_for_selector("#action-state:has-text('done')", timeout=30_000)
    return str(page.locator("#action-sentence").inner_text())


def _stop_the_standby(page: Any, console: ConsoleProcess) -> None:
    """It says what ends and what does not; clients notice nothing."""
    page.goto(f"{console.url}/engines/2")
    page.click("#engine-stop button:enabled")
    _opened(page, "Stop mse2?")
    words = page.locator("dialog").inner_text()
    assert "clients notice nothing" in words
    assert "cannot be done from here" in words
    assert page.locator("dialog input[name=handover]").count() == 0
    _confirm(page, "mse1", "mse2")
    _done(page)


def _wait_for_a_new_machine(page: Any, console: ConsoleProcess, site: Site) -> None:
    """Possible once the owner goes on alone and hears nobody."""
    site.enter(is_paired=True)
    site.cut_off("mse2")
    page.goto(f"{console.url}/pairs/1")
    page.click("#pair-readmit button:enabled", timeout=30_000)
    _opened(page, "in place of mse2?")
    assert axe_faults(page) == []
    page.fill("#d-password", "a new machine")
    page.fill("#d-minutes", "5000")
    _confirm(page, "mse2", "mse1")
    page.wait_for_selector("dialog .problem:has-text('1 to 1440 minutes')")
    page.fill("#d-password", "a new machine")
    page.fill("#d-minutes", "5")
    _confirm(page, "mse2", "mse1")
    assert "A new machine is waited for" in _done(page)
    page.click("text=To the pair")
    command = "#pair-newcomer code:has-text('--recover-from 10.10.10.11')"
    page.wait_for_selector(command, timeout=15_000)
    assert axe_faults(page) == []
    site.take_newcomer("mse2 at 10.10.10.12 takes the place of mse0.")
    page.wait_for_selector("#pair-newcomer:has-text('mse2 has come.')", timeout=15_000)


def _well(page: Any, console: ConsoleProcess, site: Site) -> None:
    """A new pair that is in step, on its own page."""
    site.enter(is_paired=True)
    page.goto(f"{console.url}/pairs/1")
    page.wait_for_selector("#pair-heartbeats:has-text('Up')", timeout=30_000)
    page.wait_for_selector("#pair-switchover button:enabled", timeout=30_000)


def _rejoin(page: Any, console: ConsoleProcess, site: Site) -> None:
    """A machine is set aside: the button that was disabled says so, and it tries once more."""
    _well(page, console, site)
    assert page.is_disabled("#pair-rejoin button")
    with site.lock:
        machine = site.world.machines["mse2"]
        assert machine.node is not None
        machine.node = replace(machine.node, quarantine="Its rejoin failed five times.")
    page.click("#pair-rejoin button:enabled", timeout=15_000)
    _opened(page, "Have mse2 try its rejoin again?")
    assert "Its rejoin failed five times." in page.locator("dialog").inner_text()
    assert axe_faults(page) == []
    page.click("dialog button:has-text('Try the rejoin again'):enabled")
    assert "The rejoin is tried again." in _done(page)
    page.goto(f"{console.url}/pairs/1")
    page.wait_for_selector("#pair-rejoin button:disabled", timeout=15_000)


def _without_a_witness(page: Any, console: ConsoleProcess, site: Site) -> None:
    """Writes wait for the other machine until a person lets them go on; then the owner boots,
    nobody answers, and a person has it serve."""
    _well(page, console, site)
    page.click("#pair-witness_remove button:enabled")
    _opened(page, "Take the third vote from witness?")
    _confirm(page, "witness", "mse1")
    _done(page)
    page.goto(f"{console.url}/pairs/1/settings")
    page.select_option("#f-no_witness_mode", "protect")
    page.select_option("#f-boot_alone", "ask")
    page.click("button:has-text('Save'):enabled")
    _done(page)
    page.goto(f"{console.url}/pairs/1")
    page.wait_for_selector("#pair-release_protect:has-text('no write waits')", timeout=15_000)
    site.cut_off("mse2")
    page.wait_for_selector("#pair-alarms:has-text('Writes wait for mse2')", timeout=30_000)
    page.click("#pair-release_protect button:enabled")
    _opened(page, "Let writes go on without mse2?")
    assert "protect" in page.locator("dialog dl").inner_text()
    assert axe_faults(page) == []
    page.click("dialog button:has-text('Release writes'):enabled")
    assert "Writes no longer wait" in _done(page)
    page.goto(f"{console.url}/pairs/1")
    page.wait_for_selector("#pair-register:has-text('ALONE')", timeout=30_000)
    with site.lock:
        owner = site.world.machines["mse1"]
        site.world.power_off(site.world.machines["witness"])
        site.world.power_off(owner)
        site.world.power_on(owner)
    page.click("#pair-confirm_alone button:enabled", timeout=30_000)
    _opened(page, "Have mse1 serve without an answer?")
    assert "both accept writes from now on" in page.locator("dialog").inner_text()
    assert axe_faults(page) == []
    _confirm(page, "mse2", "mse1")
    assert "although nobody else answers" in _done(page)
    page.goto(f"{console.url}/pairs/1")
    page.wait_for_selector("#pair-status:has-text('PRIMARY_ALONE')", timeout=15_000)


def _unpair(page: Any, console: ConsoleProcess, site: Site) -> None:
    """Both machines are well: each is a single engine afterwards, and the list offers pairing."""
    _well(page, console, site)
    page.click("button:has-text('Unpair…')")
    _opened(page, "Dissolve the pair")
    assert not page.is_checked("dialog input[name=without_peer]")
    assert "The owner goes on serving, alone" in page.locator("dialog").inner_text()
    _confirm(page, "mse2", "mse1")
    assert "dissolved" in _done(page)
    page.click("text=To the engine")
    page.wait_for_selector("a:has-text('Pair with a secondary')", timeout=15_000)
    page.goto(f"{console.url}/engines")
    page.wait_for_selector("#e1-secondary:has-text('Click here to configure')", timeout=15_000)
    page.wait_for_selector("#e2-secondary:has-text('waits for a primary')", timeout=15_000)
    page.goto(f"{console.url}/pairs")
    assert page.locator("text=No pairs yet").count() == 1
