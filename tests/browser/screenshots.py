"""Pictures of every page, in both widths and both themes: ``screenshots.py DIRECTORY [all]``."""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from live_pair import Site, until
from playwright.sync_api import sync_playwright
from stage import ConsoleProcess, console_process, launch, log_in

WIDTHS = {1440: 900, 390: 844}


def pages_of(console: ConsoleProcess) -> dict[str, str]:
    """Name of the picture -> path."""
    return {
        "engines": "/engines",
        "engine": "/engines/1",
        "engine-edit": "/engines/1/edit",
        "add-engine": "/engines/new",
        "pairs": "/pairs",
        "pair-status": "/pairs/1",
        "pair-events": "/pairs/1/events",
        "pair-timeline": "/pairs/1/timeline?span=1h",
        "pair-settings": "/pairs/1/settings",
        "pair-actions": "/pairs/1/actions",
        "people": "/people",
        "me": "/me",
        "audit": "/audit",
        "api": "/api/docs",
    }


def take(browser: Any, console: ConsoleProcess, directory: Path, theme: str, lang: str) -> None:
    """All pages in one theme and language."""
    suffix = ("" if theme == "light" else f"-{theme}") + ("" if lang == "en" else f"-{lang}")
    locale = {"en": "en-GB", "ja": "ja-JP"}[lang]
    for width, height in WIDTHS.items():
        context = browser.new_context(
            viewport={"width": width, "height": height},
            ignore_https_errors=True,
            color_scheme=theme,
            locale=locale,
        )
        page = context.new_page()
        page.goto(f"{console.url}/login")
        page.screenshot(path=directory / f"login-{width}{suffix}.png")
        log_in(page, console)
        for name, path in pages_of(console).items():
            page.goto(console.url + path)
            page.wait_for_timeout(1300)
            page.screenshot(path=directory / f"{name}-{width}{suffix}.png", full_page=True)
        page.goto(f"{console.url}/pairs/1")
        page.click("#pair-switchover button")
        page.wait_for_selector("dialog[open]")
        page.screenshot(path=directory / f"dialog-switchover-{width}{suffix}.png")
        context.close()


def main() -> None:
    """Build the stage, take the pictures."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        site = Site(Path(name), is_paired=True)
        with site.serving(), console_process(Path(name) / "console") as console:
            console.add(site, "mse1", "mse2")
            with console.logged_in() as client:
                until(
                    lambda: client.get("/api/v1/pairs/1").json().get("data_replication") == "Up",
                    "the pair is in step",
                    40,
                )
                client.post("/api/v1/pairs/1/do/switchover", json={})
                until(
                    lambda: client.get("/api/v1/pairs/1").json().get("owner") == "mse2",
                    "the service has moved",
                    40,
                )
            with sync_playwright() as playwright:
                browser = launch(playwright)
                variants = [("light", "en")]
                if "all" in sys.argv:
                    variants += [("dark", "en"), ("light", "ja")]
                for theme, lang in variants:
                    take(browser, console, directory, theme, lang)
                browser.close()


if __name__ == "__main__":
    main()
