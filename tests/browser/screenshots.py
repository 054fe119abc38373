"""Pictures of every page, in both widths and both themes: ``screenshots.py DIRECTORY [all]``."""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from issuer import Issuer
from live_pair import PASSWORD, Site, until
from playwright.sync_api import sync_playwright
from stage import ConsoleProcess, console_process, launch, log_in

Look = tuple[str, str]
"""Theme and language."""
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
        "pair-witness": "/pairs/1/witness",
        "licences": "/licences",
        "engine-licences": "/engines/1/licences",
        "people": "/people",
        "me": "/me",
        "audit": "/audit",
        "api": "/api/docs",
    }


DIALOGS = {
    "switchover": ("/pairs/1", "#pair-switchover button"),
    "witness-remove": ("/pairs/1", "#pair-witness_remove button"),
    "licence-remove": ("/engines/1/licences", "button[aria-label^='Remove licence']"),
    "stop": ("/engines/1", "#engine-stop button"),
}


def license_engines(site: Site, console: ConsoleProcess, directory: Path) -> None:
    """What a hospital has: an activation, elements, and an evaluation that ends soon."""
    issuer = Issuer(directory)
    for node in site.nodes.values():
        issuer.trusted_by(node.config)
    with console.logged_in() as client:
        udi = client.get("/api/v1/engines/1/licences").json()["udi"]
        for text in (
            issuer.text(udi, "activation"),
            issuer.text(udi, "elements", 2000),
            issuer.text(udi, "wips-monitor-mode-aps", 40, type="evaluation", days=12),
        ):
            done = client.post("/api/v1/engines/1/licences", json={"text": text})
            assert done.status_code == 201, done.text


def draft_pages(site: Site, console: ConsoleProcess) -> dict[str, str]:
    """Half-filled wizards: the licensing step, the end, and the secondary's activation."""
    account = {"user": "admin", "password": PASSWORD}
    first, second = site.nodes["mse1"], site.nodes["mse2"]
    with console.logged_in() as client:
        at = client.get("/engines/new").url.path.rpartition("/")[0]
        form = {"name": "mse3", "address": "127.0.0.1", "port": str(first.port)}
        client.post(f"{at}/connect", data=form)
        client.post(f"{at}/trust", data={"confirmed": first.serve_fingerprint()})
        client.post(f"{at}/claim", data=account)
        begun = client.get("/engines/3/pair").url.path.rpartition("/")[0]
        form = {"known_id": "", "name": "mse4", "address": "127.0.0.1", "port": str(second.port)}
        client.post(f"{begun}/secondary", data=form)
        client.post(f"{begun}/trust", data={"confirmed": second.serve_fingerprint()})
        client.post(f"{begun}/claim", data=account)
    return {
        "add-engine-licensing": f"{at}/licensing",
        "add-engine-done": f"{at}/done",
        "pair-activation": f"{begun}/activation",
        "engine-licences-empty": "/engines/4/licences",
    }


def take(
    browser: Any, console: ConsoleProcess, pages: dict[str, str], directory: Path, look: Look
) -> None:
    """All pages in one theme and language."""
    theme, lang = look
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
        for name, path in pages.items():
            page.goto(console.url + path)
            page.wait_for_timeout(1300)
            page.screenshot(path=directory / f"{name}-{width}{suffix}.png", full_page=True)
        for name, (path, button) in DIALOGS.items():
            page.goto(console.url + path)
            page.click(f"{button}:enabled")
            page.wait_for_selector("dialog[open]")
            page.screenshot(path=directory / f"dialog-{name}-{width}{suffix}.png")
        context.close()


def main() -> None:
    """Build the stage, take the pictures."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "new").mkdir(mode=0o755)
        site, new = Site(root, is_paired=True), Site(root / "new", is_paired=False)
        with site.serving(), new.serving(), console_process(root / "console") as console:
            console.add(site, "mse1", "mse2")
            license_engines(site, console, root / "issuer")
            pages = pages_of(console) | draft_pages(new, console)
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
                    take(browser, console, pages, directory, (theme, lang))
                browser.close()


if __name__ == "__main__":
    main()
