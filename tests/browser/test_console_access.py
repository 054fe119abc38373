"""Everybody can use it: axe on every page, in both themes, with dialogs open, at both widths."""

from pathlib import Path
from typing import Any

import pytest
from issuer import Issuer
from live_pair import Site
from stage import ConsoleProcess, axe_faults, log_in, policy_faults

IS_PAIRED = True
PAGES = (
    "/engines",
    "/engines/1",
    "/engines/1/server",
    "/engines/1/edit",
    "/engines/new",
    "/pairs",
    "/pairs/1",
    "/pairs/1/events",
    "/pairs/1/timeline",
    "/pairs/1/settings",
    "/pairs/1/actions",
    "/pairs/1/witness",
    "/licences",
    "/engines/1/licences",
    "/engines/2/licences",
    "/people",
    "/me",
    "/audit",
    "/api/docs",
)
DIALOGS = (
    ("/pairs/1", "#pair-switchover button"),
    ("/pairs/1", "button:has-text('Unpair')"),
    ("/pairs/1", "#pair-witness_remove button"),
    ("/engines/1", "button:has-text('Delete')"),
    ("/engines/1", "#engine-stop button"),
    ("/engines/1/licences", "button:has-text('Remove…')"),
    ("/people", "button:has-text('Change…')"),
)


@pytest.fixture(scope="module", autouse=True)
def _engines(site: Site, console: ConsoleProcess, root: Path) -> None:
    """mse1 with licences, one of which ends soon; mse2 without any."""
    console.add_pair(site)
    issuer = Issuer(root / "issuer")
    issuer.trusted_by(site.nodes["mse1"].config)
    with console.logged_in() as client:
        path = "/api/v1/engines/1/licences"
        udi = client.get(path).json()["udi"]
        for text in (
            issuer.text(udi, "activation"),
            issuer.text(udi, "elements", 500, type="evaluation", days=9),
        ):
            assert client.post(path, json={"text": text}).status_code == 201


def _faults(page: Any) -> list[str]:
    """In both themes; what does not depend on colours once."""
    page.emulate_media(color_scheme="light")
    faults = axe_faults(page)
    page.emulate_media(color_scheme="dark")
    return [*faults, *(f"dark: {fault}" for fault in axe_faults(page, "color-contrast"))]


def _too_wide(page: Any) -> list[str]:
    """At 390 px a page needs no sideways scrolling, and neither does a dialog."""
    page.set_viewport_size({"width": 390, "height": 844})
    script = (
        "Math.max(...['html', 'dialog'].map((n) => document.querySelector(n)?.scrollWidth ?? 0))"
    )
    width = page.evaluate(script)
    page.set_viewport_size({"width": 1440, "height": 900})
    return [f"{page.url}: {width} px on a phone"] if width > 390 else []


@pytest.mark.timeout(180)
def test_axe_finds_nothing_serious(browser: Any, console: ConsoleProcess) -> None:
    """Contrast in both themes included. Each page carries the policy, and keeps it."""
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(f"{console.url}/login")
    faults = _faults(page)
    log_in(page, console)
    for path in PAGES:
        answer = page.goto(console.url + path)
        faults += policy_faults(path, answer.all_headers(), answer.text())
        faults += _faults(page)
        faults += _too_wide(page)
    for path, button in DIALOGS:
        page.goto(console.url + path)
        page.click(f"{button}:enabled")
        page.wait_for_selector("dialog[open]")
        faults += _faults(page)
        faults += _too_wide(page)
    context.close()
    assert not faults, "\n".join(faults)


NEEDED = {
    "/engines": {
        "a:has-text('Add engine')": "administrator",
        "nav a:has-text('People')": "administrator",
    },
    "/engines/1": {
        "button:has-text('Synchronize')": "administrator",
        "a:has-text('Edit')": "administrator",
        "button:has-text('Delete…')": "administrator",
        "#engine-stop": "administrator",
        "h2:has-text('Synchronization history')": "viewer",
    },
    "/pairs/1": {
        "#pair-switchover": "operator",
        "#pair-failback": "operator",
        "#pair-drill": "operator",
        "button:has-text('Begin maintenance')": "operator",
        "#pair-rejoin": "operator",
        "#pair-confirm_alone": "operator",
        "#pair-release_protect": "operator",
        "#pair-takeover": "administrator",
        "button:has-text('Unpair…')": "administrator",
        "#pair-readmit": "administrator",
        "#pair-witness_remove": "administrator",
        "#pair-register": "viewer",
    },
    "/pairs/1/settings": {
        "button:has-text('Save')": "administrator",
        "#f-failover_wait_s": "viewer",
    },
    "/engines/1/licences": {
        "#f-file": "administrator",
        "button:has-text('Remove…')": "administrator",
    },
    "/me": {"button:has-text('Make a token')": "viewer"},
}
"""What is there for whom: page -> what -> the lowest role that has it."""
ROLES = ("viewer", "operator", "administrator")


def test_each_role_is_shown_what_it_may_do(browser: Any, console: ConsoleProcess) -> None:
    """Nothing more, nothing less."""
    secret = "a quiet winter morning"
    with console.logged_in() as client:
        for role in ROLES:
            form = {"name": f"one-{role}", "password": secret, "role": role}
            assert client.post("/api/v1/users", json=form).status_code == 201
    wrong = []
    for rank, role in enumerate(ROLES):
        context = browser.new_context(ignore_https_errors=True, locale="en-GB")
        page = context.new_page()
        log_in(page, console, f"one-{role}", secret)
        for path, parts in NEEDED.items():
            page.goto(console.url + path)
            for part, needed in parts.items():
                is_there = page.locator(part).count() > 0
                if is_there != (rank >= ROLES.index(needed)):
                    wrong.append(f"{role} {path} {part}: {is_there}")
        context.close()
    assert not wrong, "\n".join(wrong)


def test_it_speaks_japanese(page: Any, console: ConsoleProcess) -> None:
    """The switch is in the menu, and stays."""
    page.click("details.menu summary")
    page.click("button[lang=ja]")
    page.wait_for_selector("html[lang=ja]")
    page.goto(f"{console.url}/engines")
    assert page.locator("h1").inner_text() == "エンジン"
    page.click("details.menu summary")
    page.click("button[lang=en]")
    page.wait_for_selector("html[lang=en]")
