"""The console as the process that it is, for tests and screenshots."""

import contextlib
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from live_pair import PASSWORD, Site, until

from openmse.console.certificate import files
from openmse.console.headers import HEADERS
from openmse.console.settings import load

ADMIN = "anna"
SECRET = "a quiet winter evening"


class ConsoleProcess:
    """``python -m openmse.console`` on a socket that is passed in; may be killed and started."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, exist_ok=True)
        self.root = root
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(128)
        self.port = self.socket.getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        self.config = root / "console.toml"
        self.log = root / "console.log"
        self.config.write_text(
            f'[console]\nname = "console"\naddress = "127.0.0.1"\nurl = "{self.url}"\n'
            f'[witness]\naddress = "10.10.10.13"\n[paths]\nstate_dir = "{root}/state"\n'
        )
        self.link = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        fd = self.socket.fileno()
        command = [sys.executable, "-m", "openmse.console", "--config", str(self.config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--fd", str(fd)], pass_fds=[fd], stdout=log, stderr=log
            )
        until(lambda: "serves at" in self.text() or self.process_ended(), "the console serves", 60)
        assert not self.process_ended(), self.text()

    def process_ended(self) -> bool:
        """Whether it has died."""
        return self.process is not None and self.process.poll() is not None

    def text(self) -> str:
        """What it has written."""
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """As systemd does; it has to end by itself."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(15) == 0, self.text()

    def client(self, **options: Any) -> httpx.Client:
        """A client that trusts exactly this console."""
        import ssl

        context = ssl.create_default_context(cafile=str(files(load(self.config))[0]))
        return httpx.Client(base_url=self.url, verify=context, timeout=20, **options)

    def make_administrator(self) -> None:
        """Use the set-up link that the first start printed."""
        self.link = self.setup_path()
        form = {"name": ADMIN, "password": SECRET, "password_again": SECRET}
        with self.client() as client:
            assert client.post(self.link, data=form).status_code == 303

    def setup_path(self) -> str:
        """Where the set-up link leads that the first start printed."""
        found = re.search(r"https://\S+(/setup/\S+)", self.text())
        assert found, self.text()
        return found[1]

    def expire_sessions(self) -> None:
        """As if everybody had gone away from the desk for longer than a session lasts."""
        with contextlib.closing(sqlite3.connect(load(self.config).sqlite_file)) as store, store:
            store.execute("UPDATE sessions SET used_at = '2020-01-01T00:00:00.000+00:00'")

    @contextlib.contextmanager
    def logged_in(self, name: str = ADMIN, password: str = SECRET) -> Iterator[httpx.Client]:
        """A client with a session, and the session's token against forgery in its headers."""
        with self.client(follow_redirects=True) as client:
            answer = client.post("/login", data={"name": name, "password": password})
            found = re.search(r'X-CSRF-Token": "([^"]+)"', answer.text)
            assert found, answer.text[:2000]
            client.headers["X-CSRF-Token"] = found[1]
            yield client

    def add(self, site: Site, *names: str) -> None:
        """Add engines through the REST API, as a program would."""
        with self.logged_in() as client:
            for name in names:
                node = site.nodes[name]
                url = f"https://127.0.0.1:{node.port}/v1/hello"
                shown = httpx.get(url, verify=False, timeout=20)
                body = {
                    "name": name,
                    "address": "127.0.0.1",
                    "port": node.port,
                    "contact": "night desk",
                    "fingerprint": shown.json()["fingerprint"],
                    "user": "admin",
                    "password": PASSWORD,
                }
                answer = client.post("/api/v1/engines", json=body)
                assert answer.status_code == 201, answer.text

    def add_pair(self, site: Site) -> None:
        """Add both engines, and wait until they have told that they are a pair: until then there is
        no page of it."""
        self.add(site, "mse1", "mse2")
        with self.logged_in() as client:
            until(lambda: client.get("/api/v1/pairs/1").json().get("owner"), "the pair is seen", 30)


@contextlib.contextmanager
def console_process(root: Path) -> Iterator[ConsoleProcess]:
    """A console with an administrator, as long as the context lasts."""
    made = ConsoleProcess(root)
    try:
        made.start()
        made.make_administrator()
        yield made
        assert "Traceback" not in made.text(), made.text()
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait(10)
        made.socket.close()


CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Any) -> Any:
    """Debian's Chromium."""
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)


AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def axe_faults(page: Any, only: str = "") -> list[str]:
    """What axe finds serious on a page as it is now; ``only``: one rule, where others were run."""
    page.evaluate(AXE.read_text())
    rules = f", runOnly: ['{only}']" if only else ""
    found = page.evaluate(f"axe.run(document, {{resultTypes: ['violations']{rules}}})")
    return [
        f"{page.url}: {v['id']} ({v['impact']}): {v['nodes'][0]['html'][:160]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def policy_faults(where: str, headers: Mapping[str, str], text: str) -> list[str]:
    """What of an answer breaks the pages' policy: a header, or something inline or from elsewhere
    in what it says."""
    wanted = {**HEADERS, "cache-control": "no-store"}
    faults = [f"{where}: {k}: {headers.get(k)}" for k, v in wanted.items() if headers.get(k) != v]
    inline = r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|javascript:"
    elsewhere = r"(?:src|href|action)=.?(?:https?:)?//(?!localhost:)"
    found = re.search(f"{inline}|{elsewhere}", text)
    return [*faults, *([f"{where}: {found[0]}"] if found else [])]


def log_in(page: Any, console: ConsoleProcess, name: str = ADMIN, password: str = SECRET) -> None:
    """Log in as people do."""
    page.goto(f"{console.url}/login")
    page.fill("#f-name", name)
    page.fill("#f-password", password)
    page.click("button.primary")
    page.wait_for_url("**/engines*")
