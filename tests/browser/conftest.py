"""A real Chromium, a console, and two engines that are the real management API over real cores."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from live_pair import Site
from stage import CHROMIUM, ConsoleProcess, console_process, launch, log_in

VENDOR = Path(__file__).parents[2] / "src/openmse/console/static/vendor/htmx.min.js"
VIEW = {"width": 1440, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, where there is no browser or no files for it."""
    reason = ""
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is absent (Debian: apt-get install chromium)"
    elif not VENDOR.exists():
        reason = "the console's browser files are absent (make assets)"
    for item in items if reason else ():
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, started once for a file: Playwright keeps an event loop running in this
    thread as long as it is there, in which no asynchronous test could run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A short directory (Unix sockets allow 107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def site(root: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Two engines; ``IS_PAIRED`` of the module says whether they are a pair. Ask for them before
    the console: they then end after it, and no API waits for a reader."""
    with Site(root, is_paired=request.module.IS_PAIRED).serving() as found:
        yield found


@pytest.fixture(scope="module")
def console(root: Path) -> Iterator[ConsoleProcess]:
    """A console with an administrator and nothing else."""
    with console_process(root / "console") as found:
        yield found


@pytest.fixture
def page(browser: Any, console: ConsoleProcess) -> Iterator[Any]:
    """A page that is logged in; a script's error or a breach of policy fails the test."""
    context = browser.new_context(viewport=VIEW, ignore_https_errors=True, locale="en-GB")
    context.set_default_timeout(15_000)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: "Content Security" in m.text and faults.append(m.text))
    log_in(page, console)
    yield page
    context.close()
    assert not faults
