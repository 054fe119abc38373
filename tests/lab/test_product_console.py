"""The life of a pair in the console: real machines, real faults, a real Chromium.

One story, since each part begins with the pair that the one before left: the set-up link, engines,
pairing, roles, an owner that loses its power and comes back, planned moves, a takeover by force
with its loss, and the end of the pair while one machine is dead.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from console_licences import license_it, they_hold_without_the_owner
from console_stage import NODE_PASSWORD, WITNESS_PASSWORD, Stage, laboratory_stage
from stage import CHROMIUM, axe_faults, launch

from openmse.lab.demo_console import fingerprint_of

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]

ADMIN, OPERATOR, VIEWER = "anna", "otto", "vera"
SECRET = "a quiet winter evening"
PAIR = "/pairs/1"
VENDOR = Path(__file__).parents[2] / "src/openmse/console/static/vendor/htmx.min.js"
STEP_MS = 40_000
COLLECT_PERCENTS = """
window.percents = []
const place = document.getElementById('action-progress')
const look = () => {
  const bar = place.querySelector('progress')
  if (bar) percents.push(bar.value)
}
look()
new MutationObserver(look).observe(place, { childList: true, subtree: true })
"""
"""What the bar of an action's page shows, each time that it is drawn."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, for this file alone: Playwright keeps an event loop running in this thread
    as long as it is there, in which no asynchronous test could run."""
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is absent (Debian: apt-get install chromium)")
    if not VENDOR.exists():
        pytest.skip("the console's browser files are absent (make assets)")
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def stage(browser: Any) -> Iterator[Stage]:
    """Three machines that are set up and not paired, and a console that nobody has opened yet."""
    with laboratory_stage() as found:
        yield found


def test_the_life_of_a_pair(browser: Any, stage: Stage) -> None:
    anna, otto, vera = (stage.person(browser) for _ in range(3))
    for work, *arguments in (
        (become_first_administrator, anna),
        (add_the_primary, anna),
        (pair_it, anna),
        (watch_it, anna),
        (license_it, anna),
        (invite, anna, otto, vera),
        (a_viewer_can_only_look, vera),
        (lose_the_owner, vera),
        (they_hold_without_the_owner, vera),
        (see_it_rejoin, vera),
        (an_operator_moves_the_service, otto, "failback", "mse1"),
        (an_operator_moves_the_service, otto, "switchover", "mse2"),
        (lose_both, vera),
        (take_over_by_force, anna),
        (read_what_happened, anna),
        (end_it, anna),
    ):
        began_s = time.monotonic()
        work(stage, *arguments)
        print(f"{time.monotonic() - began_s:6.1f} s  {work.__name__}", flush=True)
    stage.close()


def seen(page: Any, selector: str, text: str = "") -> None:
    """Wait until something is to be seen."""
    page.wait_for_selector(f"{selector}:has-text('{text}')" if text else selector, timeout=STEP_MS)


def accessible(page: Any, theme: str = "light") -> None:
    """Axe finds nothing serious. Both themes on every page: ``test_console_access.py``."""
    page.emulate_media(color_scheme=theme)
    faults = axe_faults(page)
    page.emulate_media(color_scheme="light")
    assert not faults, "\n".join(faults)


FOCUSED = "document.activeElement.textContent.trim()"


def tab_to(page: Any, text: str) -> None:
    """Press Tab until what has this text has the focus, which can be seen there."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == text:
            break
    assert page.evaluate(FOCUSED) == text
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def log_in(stage: Stage, page: Any, name: str) -> None:
    page.goto(f"{stage.console.url}/login")
    page.fill("#f-name", name)
    page.fill("#f-password", SECRET)
    page.click("button.primary")
    page.wait_for_url("**/engines*")


# ---------------------------------------------------------------------- the beginning


def become_first_administrator(stage: Stage, page: Any) -> None:
    """The printed link makes an administrator, once."""
    page.goto(stage.console.url + stage.link)
    page.fill("#f-name", ADMIN)
    page.fill("#f-password", SECRET)
    page.fill("#f-password_again", "another evening")
    page.click("button.primary")
    seen(page, ".field-bad", "The two passwords differ")
    accessible(page)
    for field in ("#f-password", "#f-password_again"):
        page.fill(field, SECRET)
    page.click("button.primary")
    page.wait_for_url("**/login*")
    assert page.goto(stage.console.url + stage.link).status == 404
    log_in(stage, page, ADMIN)
    seen(page, "text=No engines yet")
    stage.picture(page, "01-nothing-yet")


def add_the_primary(stage: Stage, page: Any) -> None:
    """Wrong inputs are told beside their fields; what was typed stays."""
    page.goto(f"{stage.console.url}/engines/new")
    page.fill("#f-name", "mse1")
    page.fill("#f-address", stage.lab.machines["mse1"].address)
    page.fill("#f-port", "seven")
    page.click("button:has-text('Connect')")
    seen(page, "#fh-port", "A port is a number")
    page.fill("#f-port", "1")
    page.click("button:has-text('Connect')")
    seen(page, ".problem", "Nothing listens at")
    assert page.input_value("#f-name") == "mse1"
    page.fill("#f-port", "")
    page.click("button:has-text('Connect')")
    page.wait_for_url("**/trust")
    assert page.locator(".fingerprint").inner_text() == fingerprint_of(stage.lab, "mse1")
    stage.picture(page, "02-fingerprint")
    page.check("input[name=confirmed]")
    page.click("button:has-text('Continue')")
    page.wait_for_url("**/claim")
    page.fill("#f-user", "admin")
    page.fill("#f-password", "not the password")
    page.click("button:has-text('Add this engine')")
    seen(page, ".problem")
    page.fill("#f-user", "admin")
    page.fill("#f-password", NODE_PASSWORD)
    page.click("button:has-text('Add this engine')")
    page.wait_for_url(lambda url: not url.endswith("/claim"))
    page.goto(f"{stage.console.url}/engines/1")
    seen(page, "#engine-reach", "Reachable")
    stage.picture(page, "03-engine")


def pair_it(stage: Stage, page: Any) -> None:
    """With a secondary that this console does not know yet; every step is shown."""
    page.click("text=Pair with a secondary")
    page.fill("#f-name", "mse2")
    page.fill("#f-address", stage.lab.machines["mse2"].address)
    page.click("button:has-text('Continue')")
    page.wait_for_url("**/trust")
    assert page.locator(".fingerprint").inner_text() == fingerprint_of(stage.lab, "mse2")
    page.check("input[name=confirmed]")
    page.click("button:has-text('Continue')")
    seen(page, "#f-user")
    accessible(page)
    stage.picture(page, "04-pairing")
    page.fill("#f-user", "admin")
    page.fill("#f-password", NODE_PASSWORD)
    page.click("button:has-text('Continue')")
    page.wait_for_url(lambda url: not url.endswith("/claim"))
    if page.url.endswith("/activation"):  # a virtual appliance, which is offered that step
        page.click("a.button.primary")
        page.wait_for_url("**/pair")
    page.fill("#f-failover_wait_s", "2")
    page.fill("#f-witness_password", WITNESS_PASSWORD)
    stage.lab.slow("mse2", delay_ms=60)  # so that the copy takes longer than a look at it
    page.click("button:has-text('Pair mse1 with mse2')")
    page.wait_for_url("**/actions/*")
    page.evaluate(COLLECT_PERCENTS)
    seen(page, "#action-steps li", "synchronization")
    stage.picture(page, "05-pairing-steps")
    seen(page, "#action-state", "done")
    stage.lab.heal()
    steps = page.locator("#action-steps").inner_text()
    for word in ("pairing password", "making them voters", "synchronization"):
        assert word in steps
    percents = page.evaluate("window.percents")
    print(f"         percents of the copy: {percents}")
    assert len(set(percents)) > 1, "it is seen to move"
    assert percents == sorted(percents)
    assert 0 <= percents[0] < percents[-1] <= 100
    accessible(page)
    stage.picture(page, "06-paired")


def watch_it(stage: Stage, page: Any) -> None:
    """The status page is alive: figures come by themselves, and clients are served."""
    stage.let_clients_in()
    page.click("text=To the pair")
    seen(page, "#pair-owner", "mse1 owns and serves")
    seen(page, "#pair-replication", "Up")
    seen(page, "#pair-heartbeats", "Up")
    seen(page, "#pair-witness", "Heard")
    page.evaluate("document.querySelector('#pair-trip').textContent = ''")
    seen(page, "#pair-trip", "ms")
    stage.value("CREATE TABLE story (line text); INSERT INTO story VALUES ('one')")
    accessible(page)
    stage.picture(page, "07-pair")


# ---------------------------------------------------------------------- roles


def invite(stage: Stage, page: Any, otto: Any, vera: Any) -> None:
    """An operator and a viewer, each in a browser of their own."""
    page.goto(f"{stage.console.url}/people")
    for name, role in ((OPERATOR, "operator"), (VIEWER, "viewer")):
        page.fill("#f-name", name)
        page.check(f"input[value={role}]")
        page.fill("#f-password", SECRET)
        page.click("form[action='/people'] button.primary")
        seen(page, "td.card-name", name)
    log_in(stage, otto, OPERATOR)
    log_in(stage, vera, VIEWER)


def a_viewer_can_only_look(stage: Stage, page: Any) -> None:
    """Nothing to press is shown, and what is sent nevertheless is refused."""
    page.goto(stage.console.url + PAIR)
    seen(page, "text=Your role can look")
    for gone in ("#pair-switchover", "text=Unpair…", "text=Force takeover…", "text=Maintenance"):
        assert page.locator(gone).count() == 0
    before = stage.register()
    token = page.evaluate("JSON.parse(document.body.getAttribute('hx-headers'))['X-CSRF-Token']")
    for path in (f"{PAIR}/do/switchover", f"{PAIR}/do/unpair", f"{PAIR}/maintenance/on"):
        answer = page.request.post(
            stage.console.url + path, headers={"X-CSRF-Token": token}, form={"confirm": "mse1"}
        )
        assert answer.status == 403, answer.text()
    for path in ("/engines/1/pair", "/people", "/engines/new"):
        assert page.request.get(stage.console.url + path).status == 403
    assert stage.register() == before


def an_operator_moves_the_service(stage: Stage, page: Any, kind: str, to: str) -> None:
    """With a dialog that names the machines, and the steps of both of them. The switchover is
    somebody's who has no mouse."""
    page.goto(stage.console.url + PAIR)
    button = f"#pair-{kind} button"
    seen(page, f"{button}:enabled")
    assert page.locator("#pair-takeover").count() == 0
    if kind == "switchover":
        tab_to(page, "Switchover…")
        page.keyboard.press("Enter")
    else:
        page.click(button)
    seen(page, "dialog[open]")
    assert page.evaluate(FOCUSED) == "Cancel"
    assert to in page.locator("dialog h2").inner_text()
    if kind == "switchover":
        accessible(page)
        stage.picture(page, "11-switchover", is_whole=False)
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert page.evaluate(FOCUSED) == "Switchover…", "back where the dialog was opened"
        page.keyboard.press("Enter")
        seen(page, "dialog[open]")
        tab_to(page, page.locator("dialog button.primary").inner_text())
        page.keyboard.press("Enter")
    else:
        page.click("dialog button.primary")
    page.wait_for_url("**/actions/*")
    seen(page, "#action-state", "done")
    assert "stop" in page.locator("#action-steps").inner_text()
    assert page.locator("#action-steps .number", has_text=" ms").count() > 1
    other = "mse1" if to == "mse2" else "mse2"
    seen(page, f"#action-seen [aria-label={other}]", "kept out")
    seen(page, f"#action-seen [aria-label={to}]", "admitted")
    stage.picture(page, f"12-{kind}-steps")
    page.click("text=To the pair")
    seen(page, "#pair-owner", f"{to} owns and serves")
    seen(page, "#pair-replication", "Up")
    stage.until_sync()


# ---------------------------------------------------------------------- faults


def lose_the_owner(stage: Stage, page: Any) -> None:
    """A page that is open meanwhile tells it, without a click."""
    seen(page, "#pair-owner", "mse1 owns and serves")
    stage.lab.power_off("mse1")
    seen(page, "#pair-owner", "mse2 owns and serves")
    seen(page, "#pair-first", "no data for")
    seen(page, "#pair-heartbeats", "Down")
    seen(page, "#pair-replication", "Down")
    seen(page, "#pair-alarms .alarm", "mse1")
    seen(page, "#pair-events", "ALONE(mse2)")
    accessible(page, "dark")
    stage.picture(page, "08-owner-lost")


def see_it_rejoin(stage: Stage, page: Any) -> None:
    """The old owner comes back by itself, and the same page tells it."""
    stage.lab.power_on("mse1")
    seen(page, "#pair-replication", "Up")
    page.wait_for_selector("#pair-first .age", state="detached", timeout=STEP_MS)
    seen(page, "#pair-first", "mse2 owns; this node follows it")
    stage.picture(page, "09-rejoined")
    stage.until_sync()


def lose_both(stage: Stage, page: Any) -> None:
    """First the standby, so that only the owner has the newest data; then the owner too."""
    page.goto(stage.console.url + PAIR)
    seen(page, "#pair-owner", "mse2 owns and serves")
    stage.lab.power_off("mse1")
    seen(page, "#pair-register", "ALONE")
    stage.value("INSERT INTO story VALUES ('only mse2 has this')")
    stage.lab.power_off("mse2")
    seen(page, "#pair-owner", "Unknown")
    accessible(page)
    stage.picture(page, "13-nobody-heard")
    stage.lab.power_on("mse1")
    seen(page, "#pair-first", "WAITING")


def take_over_by_force(stage: Stage, page: Any) -> None:
    """The loss is shown, and nothing happens before the machine's name is typed."""
    page.goto(stage.console.url + PAIR)
    seen(page, "#pair-takeover button:enabled")
    page.click("#pair-takeover button")
    seen(page, "dialog[open] .alarm")
    accessible(page)
    stage.picture(page, "14-takeover", is_whole=False)
    final = page.locator("dialog button.danger-final")
    assert final.is_disabled()
    page.fill("#d-confirm", "mse2")
    assert final.is_disabled()
    page.fill("#d-confirm", "mse1")
    final.click()
    page.wait_for_url("**/actions/*")
    seen(page, "#action-state", "done")
    stage.picture(page, "15-taken-over")
    page.click("text=To the pair")
    seen(page, "#pair-owner", "mse1 owns and serves")
    assert stage.value("SELECT string_agg(line, ',') FROM story") == "one"


def promotions(page: Any) -> int:
    """How many moves the timeline has, read anew: it does not go on by itself."""
    page.reload()
    seen(page, "text=Moves and their phases")
    return int(page.locator("td", has_text="promote").count())


def read_what_happened(stage: Stage, page: Any) -> None:
    """The timeline has each move with its phases, the events each fault."""
    page.click("nav a:has-text('Timeline')")
    seen(page, "text=Moves and their phases")
    stage.until(lambda: promotions(page) == 3, "the last move is in the timeline, too")
    seen(page, "td", "A takeover was forced")
    seen(page, "td", "ALONE(mse2)")
    assert page.locator("svg.timeline rect.fault").count() >= 2
    accessible(page)
    stage.picture(page, "16-timeline")
    page.click("nav a:has-text('Events')")
    seen(page, "td", "forced")
    stage.picture(page, "17-events")


# ---------------------------------------------------------------------- the end


def end_it(stage: Stage, page: Any) -> None:
    """The pair is dissolved and both engines are forgotten, although one machine is dead."""
    page.goto(stage.console.url + PAIR)
    seen(page, "#pair-heartbeats", "Down")
    page.click("button:has-text('Unpair…')")
    seen(page, "dialog[open]")
    assert page.is_checked("input[name=without_peer]")
    accessible(page)
    page.fill("#d-confirm", "mse1")
    page.click("dialog button.danger-final")
    page.wait_for_url("**/actions/*")
    seen(page, "#action-state", "done")
    stage.picture(page, "18-unpaired")
    assert stage.register()["voters"] == ["mse1"]
    for number, words in ((2, "cannot be told"), (1, "is told")):
        page.goto(f"{stage.console.url}/engines/{number}")
        page.click("button:has-text('Delete…')")
        seen(page, "dialog[open]", words)
        page.click("dialog button.danger-final")
        page.wait_for_url("**/engines")
    seen(page, "text=No engines yet")
    assert stage.value("SELECT count(*) FROM story") == "1"
