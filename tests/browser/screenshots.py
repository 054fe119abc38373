"""Pictures of every page, wizard step and dialog at both widths.

``screenshots.py DIRECTORY [THEME:LANGUAGE ...]``: light:en without more, as the documents have
them; ``all`` is both themes in both languages. The pair goes through its whole life meanwhile:
well, set aside, cut off, its witness lost, without one, its owner lost.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from issuer import Issuer
from live_pair import PASSWORD, Site, until
from msgspec.structs import replace
from playwright.sync_api import sync_playwright
from stage import ADMIN, SECRET, ConsoleProcess, launch

Look = tuple[str, str]
"""Theme and language."""
LOOKS: tuple[Look, ...] = (("light", "en"), ("dark", "en"), ("light", "ja"), ("dark", "ja"))
WIDTHS = {1440: 900, 390: 844}
PATIENCE_S = 60.0
CHARTED = ("pair-status", "pair-owner-lost")
"""Pages whose charts want a moment of life."""

PAGES = {
    "engines": "/engines",
    "engine": "/engines/1",
    "engine-server": "/engines/1/server",
    "engine-edit": "/engines/1/edit",
    "pairs": "/pairs",
    "pair-status": "/pairs/1",
    "pair-events": "/pairs/1/events",
    "pair-timeline": "/pairs/1/timeline?span=15m",
    "pair-actions": "/pairs/1/actions",
    "pair-settings": "/pairs/1/settings",
    "pair-witness": "/pairs/1/witness",
    "licences": "/licences",
    "engine-licences": "/engines/1/licences",
    "engine-licences-empty": "/engines/2/licences",
    "people": "/people",
    "me": "/me",
    "audit": "/audit",
    "api": "/api/docs",
    "error": "/pairs/99",
}
EMPTY = {
    "engines-empty": "/engines",
    "pairs-empty": "/pairs",
    "licences-empty": "/licences",
}
DIALOGS = {
    "switchover": ("/pairs/1", "#pair-switchover button"),
    "failback": ("/pairs/1", "#pair-failback button"),
    "drill": ("/pairs/1", "#pair-drill button"),
    "unpair": ("/pairs/1", "[hx-get$='/do/unpair']"),
    "witness-remove": ("/pairs/1", "#pair-witness_remove button"),
    "licence-remove": ("/engines/1/licences", "table button[hx-get*='/licences/']"),
    "stop": ("/engines/1", "#engine-stop button"),
    "engine-delete": ("/engines/1", "[hx-get$='/delete']"),
    "user": ("/people", f"[hx-get='/people/{ADMIN}/dialog']"),
}


class Album:
    """A browser's window for each look and width, all of them logged in."""

    def __init__(
        self, browser: Any, console: ConsoleProcess, directory: Path, looks: tuple[Look, ...]
    ) -> None:
        self.console, self.directory = console, directory
        self.windows: dict[str, Any] = {}
        self.names: list[str] = []
        for theme, lang in looks:
            for width, height in WIDTHS.items():
                suffix = ("" if theme == "light" else f"-{theme}") + (
                    "" if lang == "en" else f"-{lang}"
                )
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    ignore_https_errors=True,
                    color_scheme=theme,
                    locale={"en": "en-GB", "ja": "ja-JP"}[lang],
                )
                self.windows[f"{width}{suffix}"] = context.new_page()

    def log_in(self) -> None:
        """In every window."""
        for page in self.windows.values():
            page.goto(f"{self.console.url}/login")
            page.fill("#f-name", ADMIN)
            page.fill("#f-password", SECRET)
            page.click("button.primary")
            page.wait_for_url("**/engines*")

    def pages(self, pages: Mapping[str, str]) -> None:
        """Whole pages, by name."""
        for name, path in pages.items():
            self.names.append(name)
            for kind, page in self.windows.items():
                page.goto(self.console.url + path)
                page.wait_for_timeout(1300 if name in CHARTED else 200)
                page.screenshot(path=self.directory / f"{name}-{kind}.png", full_page=True)

    def dialogs(self, dialogs: Mapping[str, tuple[str, str]]) -> None:
        """What a button opens, by name, with as much of the page as is seen behind it."""
        for name, (path, button) in dialogs.items():
            self.names.append(f"dialog-{name}")
            for kind, page in self.windows.items():
                page.goto(self.console.url + path)
                page.click(f"{button}:enabled")
                page.wait_for_selector("dialog[open]")
                page.screenshot(path=self.directory / f"dialog-{name}-{kind}.png")


def index(names: list[str]) -> str:
    """A page that shows them all, in the order in which a person meets them."""
    lines = [
        "# Pictures of the console",
        "",
        "Made by `make screenshots`: each page, step and dialog at",
    ]
    lines += ["1440 and at 390 pixels.", ""]
    for name in names:
        wide, narrow = (f"![{name} at {width}]({name}-{width}.png)" for width in WIDTHS)
        lines += [f"## {name.replace('-', ' ').capitalize()}", wide, narrow, ""]
    return "\n".join(lines)


class Story:
    """What happens to the pair, and what is to be seen of it."""

    def __init__(self, album: Album, site: Site) -> None:
        self.album, self.site, self.console = album, site, album.console

    def pair(self, key: str) -> Any:
        """A field of the pair as the API tells it."""
        with self.console.logged_in() as client:
            return client.get("/api/v1/pairs/1").json().get(key)

    def wait(self, key: str, value: str) -> None:
        """Until a field of the pair has that value."""
        with self.console.logged_in() as client:
            until(
                lambda: client.get("/api/v1/pairs/1").json().get(key) == value,
                f"{key} is {value}",
                PATIENCE_S,
            )

    def do(self, kind: str, **body: Any) -> str:
        """An action, to its end; the path of its page."""
        with self.console.logged_in() as client:
            begun = client.post(f"/api/v1/pairs/1/do/{kind}", json=body)
            assert begun.status_code == 202, begun.text
            path = f"/actions/{begun.json()['id']}"
            state = lambda: client.get(f"/api/v1{path}").json()["state"]  # noqa: E731
            until(lambda: state() != "running", f"{kind} has ended", PATIENCE_S)
            assert state() == "done"
        return path

    def anew(self) -> None:
        """A pair that is well, mse1 its owner."""
        self.site.enter(is_paired=True)
        self.wait("owner", "mse1")
        self.wait("data_replication", "Up")

    def well(self) -> None:
        """Every page and dialog of a pair whose service has moved once."""
        self.wait("data_replication", "Up")
        moved = self.do("switchover")
        self.wait("owner", "mse2")
        self.wait("data_replication", "Up")
        self.album.pages({**PAGES, "action": moved})
        self.album.dialogs(DIALOGS)

    def set_aside(self) -> None:
        """A standby whose rejoin has failed again and again."""
        with self.site.lock:
            machine = self.site.world.machines["mse1"]
            assert machine.node is not None
            machine.node = replace(machine.node, quarantine="Its rejoin failed five times.")
        self.album.pages({"pair-set-aside": "/pairs/1"})
        self.album.dialogs({"rejoin": ("/pairs/1", "#pair-rejoin button")})

    def cut_off_and_lost(self) -> None:
        """The standby is cut off; then the owner, which went on alone, is lost."""
        self.anew()
        self.site.cut_off("mse2")
        self.wait("mode", "ALONE")
        self.album.pages({"pair-alone": "/pairs/1"})
        self.album.dialogs({"readmit": ("/pairs/1", "#pair-readmit button")})
        self.new_machine()
        self.site.nodes["mse1"].stop()
        self.site.power_off("mse1")
        with self.site.lock:
            self.site.world.cuts = frozenset()
        self.album.dialogs({"takeover": ("/pairs/1", "#pair-takeover button")})
        self.site.enter(is_paired=True)
        self.site.nodes["mse1"].start(self.site)

    def new_machine(self) -> None:
        """The owner waits for a machine in place of the lost one; the wait ends before it comes."""
        self.do("readmit", confirm="mse1", password="words for a new machine", minutes=60)
        until(lambda: self.pair("newcomer") is not None, "a new machine is waited for", PATIENCE_S)
        self.album.pages({"pair-new-machine": "/pairs/1"})
        self.album.dialogs({"readmit-cancel": ("/pairs/1", "#pair-newcomer button")})
        self.site.take_newcomer("mse9 at 10.10.10.19 takes the place of mse2.")
        until(lambda: self.pair("newcomer") is None, "it is waited for no more", PATIENCE_S)

    def witness_lost(self) -> None:
        """The third machine is down: the pair goes on, and shows what it is without it."""
        self.anew()
        self.site.power_off("witness")
        self.wait("witness", "Silent")
        self.album.pages(
            {
                "pair-witness-lost": "/pairs/1",
                "pairs-witness-lost": "/pairs",
                "engines-witness-lost": "/engines",
                "pair-witness-replace": "/pairs/1/witness",
            }
        )

    def without_witness(self) -> None:
        """Writes that wait for a person; then a boot at which nobody answers."""
        self.anew()
        self.do("witness_remove", confirm="mse1")
        with self.console.logged_in() as client:
            given = {"no_witness_mode": "protect", "boot_alone": "ask"}
            assert client.patch("/api/v1/pairs/1/settings", json=given).status_code == 202
        self.wait("witness", "None")
        self.site.cut_off("mse2")
        self.album.dialogs({"release-protect": ("/pairs/1", "#pair-release_protect button")})
        self.do("release_protect")
        self.wait("mode", "ALONE")
        with self.site.lock:
            self.site.world.power_off(self.site.world.machines["witness"])
            machine = self.site.world.machines["mse1"]
            self.site.world.power_off(machine)
            self.site.world.power_on(machine)
        self.wait("state", "WAITING")
        self.album.pages({"pair-waits": "/pairs/1"})
        self.album.dialogs({"confirm-alone": ("/pairs/1", "#pair-confirm_alone button")})

    def owner_lost(self) -> None:
        """The owner's power goes, and the other machine takes over by itself."""
        self.anew()
        self.site.nodes["mse1"].stop()
        self.site.power_off("mse1")
        self.wait("owner", "mse2")
        self.album.pages(
            {
                "pair-owner-lost": "/pairs/1",
                "engines-trouble": "/engines",
                "engine-lost": "/engines/1",
                "engine-licences-lost": "/engines/1/licences",
            }
        )
        self.album.dialogs(
            {
                "unpair-dead": ("/pairs/1", "[hx-get$='/do/unpair']"),
                "engine-delete-dead": ("/engines/1", "[hx-get$='/delete']"),
            }
        )


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


def wizards(album: Album, site: Site) -> None:
    """Every step of both wizards, with two machines that are nobody's; they end undone."""
    account = {"user": "admin", "password": PASSWORD}
    first, second = site.nodes["mse1"], site.nodes["mse2"]
    with album.console.logged_in() as client:
        at = client.get("/engines/new").url.path.rpartition("/")[0]
        album.pages({"add-engine": f"{at}/connect"})
        form = {"name": "mse3", "address": "127.0.0.1", "port": str(first.port)}
        client.post(f"{at}/connect", data=form)
        album.pages({"add-engine-trust": f"{at}/trust"})
        client.post(f"{at}/trust", data={"confirmed": first.serve_fingerprint()})
        album.pages({"add-engine-claim": f"{at}/claim"})
        client.post(f"{at}/claim", data=account)
        album.pages({f"add-engine-{step}": f"{at}/{step}" for step in ("licensing", "done")})
        at = client.get("/engines/3/pair").url.path.rpartition("/")[0]
        album.pages({"pair-with": f"{at}/secondary"})
        form = {"known_id": "", "name": "mse4", "address": "127.0.0.1", "port": str(second.port)}
        client.post(f"{at}/secondary", data=form)
        album.pages({"pair-trust": f"{at}/trust"})
        client.post(f"{at}/trust", data={"confirmed": second.serve_fingerprint()})
        album.pages({"pair-claim": f"{at}/claim"})
        client.post(f"{at}/claim", data=account)
        album.pages({"pair-activation": f"{at}/activation", "pair-configuration": f"{at}/pair"})
        for number in (4, 3):
            client.delete(f"/api/v1/engines/{number}")


@contextmanager
def stage_of(root: Path) -> Iterator[tuple[Site, Site, ConsoleProcess]]:
    """A pair, two machines that are nobody's, and a console that nobody has opened yet."""
    (root / "new").mkdir(mode=0o755)
    site, new = Site(root, is_paired=True), Site(root / "new", is_paired=False)
    console = ConsoleProcess(root / "console")
    with site.serving(), new.serving():
        try:
            console.start()
            yield site, new, console
            console.stop()
        finally:
            if not console.process_ended():
                console.kill()


def looks_of(arguments: list[str]) -> tuple[Look, ...]:
    """The looks that are asked for."""
    if arguments == ["all"]:
        return LOOKS
    asked = [(theme, lang) for theme, _, lang in (one.partition(":") for one in arguments)]
    return tuple(asked) or LOOKS[:1]


def main() -> None:
    """Build the stage, take the pictures."""
    directory, looks = Path(sys.argv[1]), looks_of(sys.argv[2:])
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name, sync_playwright() as play:
        root = Path(name)
        root.chmod(0o755)
        browser = launch(play)
        with stage_of(root) as (site, new, console):
            album = Album(browser, console, directory, looks)
            album.pages({"setup": console.setup_path(), "login": "/login"})
            console.make_administrator()
            album.log_in()
            album.pages(EMPTY)
            console.add(site, "mse1", "mse2")
            license_engines(site, console, root / "issuer")
            wizards(album, new)
            story = Story(album, site)
            story.well()
            story.set_aside()
            story.cut_off_and_lost()
            story.witness_lost()
            story.without_witness()
            story.owner_lost()
            if ("light", "en") in looks:
                (directory / "README.md").write_text(index(album.names))
        browser.close()


if __name__ == "__main__":
    main()
