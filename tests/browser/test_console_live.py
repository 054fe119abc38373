"""The stream: many tabs, a console that dies, focus that stays, history that is whole."""

from typing import Any

import pytest
from live_pair import Site, until
from stage import ADMIN, SECRET, ConsoleProcess

IS_PAIRED = True


@pytest.fixture(scope="module", autouse=True)
def _engines(site: Site, console: ConsoleProcess) -> None:
    console.add_pair(site)


def _holds(page: Any, expression: str) -> None:
    """Playwright's own waiting evaluates strings, which the page's policy forbids."""
    until(lambda: page.evaluate(expression), expression, 15)


def _ticks(page: Any) -> None:
    page.evaluate(
        "window.seen = 0; document.addEventListener('mse:live', (e) => {"
        " if (e.detail.name === 'tick') window.seen += 1 })"
    )


def test_eight_tabs_at_once_are_all_alive(page: Any, console: ConsoleProcess) -> None:
    """Browsers allow six connections to a host; one stream serves all tabs."""
    tabs = [page] + [page.context.new_page() for _ in range(7)]
    for number, tab in enumerate(tabs):
        tab.goto(console.url + ["/engines", "/pairs/1", "/pairs", "/engines/1"][number % 4])
        _ticks(tab)
    for tab in tabs:
        _holds(tab, "window.seen >= 2")
        tab.wait_for_selector("#stale", state="hidden")  # it is looked at each half second


def test_the_leading_tab_may_go(page: Any, console: ConsoleProcess) -> None:
    """Another tab takes the stream over."""
    page.goto(f"{console.url}/pairs/1")
    _ticks(page)
    _holds(page, "window.seen >= 1")
    other = page.context.new_page()
    other.goto(f"{console.url}/pairs/1")
    _ticks(other)
    _holds(other, "window.seen >= 1")
    page.goto("about:blank")
    other.evaluate("window.seen = 0")
    _holds(other, "window.seen >= 2")


def _is_locked_out(browser: Any, console: ConsoleProcess) -> None:
    """The name stays, the password goes; after five wrong ones the right one waits as well."""
    context = browser.new_context(ignore_https_errors=True, locale="en-GB")
    page = context.new_page()
    page.goto(f"{console.url}/login")
    page.fill("#f-name", ADMIN)
    for _ in range(5):
        page.fill("#f-password", "not this one")
        with page.expect_navigation():  # the page before has the same words
            page.click("button.primary")
        page.wait_for_selector(".problem:has-text('is wrong')")
        assert page.input_value("#f-name") == ADMIN
        assert page.input_value("#f-password") == ""
    page.fill("#f-password", SECRET)
    page.click("button.primary")
    page.wait_for_selector(".problem:has-text('try again in 15 min')")
    context.close()


def _looks(page: Any) -> Any:
    """Of a pair's page: the filter, and whether the state's shape and word are written small."""
    return page.evaluate(
        "(() => { const look = (what) => getComputedStyle(document.querySelector(what));"
        " const muted = look('main .muted').color;"
        " return [look('main').filter, look('#pair-status .glyph').color === muted,"
        " look('#pair-status .mark').color === muted] })()"
    )


@pytest.mark.timeout(120)
def test_a_console_that_dies_is_told_and_comes_back(page: Any, console: ConsoleProcess) -> None:
    """Silence is shown after three seconds, buttons are disabled; nothing typed is lost. Before
    that somebody guesses: the address waits, but who is logged in goes on."""
    page.goto(f"{console.url}/engines/new")
    page.fill("#f-name", "mse9")
    page.fill("#f-address", "127.0.0.1")
    page.fill("#f-port", "1")
    page.click("button:has-text('Connect')")
    page.wait_for_selector(".problem")
    wizard = page.url
    watching = page.context.new_page()
    watching.goto(f"{console.url}/pairs/1")
    watching.wait_for_selector("#pair-switchover button:enabled")
    _is_locked_out(page.context.browser, console)  # until the console begins anew
    console.kill()
    watching.wait_for_selector("#stale:visible", timeout=8000)
    assert "No word from the console for" in watching.locator("#stale").inner_text()
    watching.wait_for_selector("#pair-switchover button:disabled")
    assert _looks(watching) == ["grayscale(1)", True, True], "it may be otherwise by now"
    console.start()
    watching.wait_for_selector("#stale", state="hidden", timeout=15_000)
    # What the console knows of the engines it has to hear anew, which is no silence of its own.
    until(lambda: _looks(watching) == ["none", False, False], "it looks well again", 15)
    watching.wait_for_selector("#pair-switchover button:enabled", timeout=15_000)
    page.goto(wizard)
    assert page.input_value("#f-name") == "mse9"


def test_a_session_that_ended_leads_back_to_where_one_was(
    page: Any, console: ConsoleProcess
) -> None:
    """From a dialog that cannot be shown any more, and from a form that was sent too late (pages
    that have a stream go by themselves, too)."""
    for path, press in (
        ("/people", "button:has-text('Change…')"),
        ("/pairs/1/settings", "button:has-text('Save')"),
    ):
        page.goto(console.url + path)
        console.expire_sessions()
        page.click(press)
        page.wait_for_selector(".tip:has-text('Your session has ended')")
        page.fill("#f-name", ADMIN)
        page.fill("#f-password", SECRET)
        page.click("button.primary")
        page.wait_for_selector(f"header.top ~ main {press}")
        assert page.url == console.url + path


def test_back_shows_whole_pages(page: Any, console: ConsoleProcess) -> None:
    """A fragment that shares a page's URL is never what 'back' shows."""
    page.goto(f"{console.url}/engines")
    page.select_option("select[name=show]", "secondary")
    page.wait_for_url("**show=secondary*")
    _holds(page, "document.querySelectorAll('tbody tr').length === 1")
    page.click("tbody a >> nth=0")
    page.wait_for_selector("h2:has-text('Identity')")
    page.go_back()
    page.wait_for_selector("header.top")
    assert page.locator("tbody tr").count() == 1


def test_a_region_with_the_focus_is_not_swapped(page: Any, console: ConsoleProcess) -> None:
    """The figures change, but what a person is at stays the same element."""
    page.goto(f"{console.url}/pairs/1")
    page.wait_for_selector("#pair-switchover button:enabled")
    page.focus("#pair-first a")
    page.evaluate("document.activeElement.mine = true")
    _ticks(page)
    _holds(page, "window.seen >= 3")
    assert page.evaluate("document.activeElement.mine") is True


def test_a_list_that_was_filtered_goes_on(page: Any, console: ConsoleProcess, site: Site) -> None:
    """The page that found nothing at first follows what the next filter finds."""
    page.goto(f"{console.url}/engines?text=nothing-of-this-name")
    page.wait_for_selector("text=No engine matches.")
    page.fill("#f-text", "mse2")
    page.wait_for_selector("#e2-reach >> text='Reachable'")
    site.nodes["mse2"].stop()
    try:
        page.wait_for_selector("#e2-reach >> text='Unreachable'", timeout=20_000)
    finally:
        site.nodes["mse2"].start(site)
    page.wait_for_selector("#e2-reach >> text='Reachable'", timeout=20_000)
