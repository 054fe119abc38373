"""A laboratory whose machines nobody has paired yet, and the console on its witness machine."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from operating import NODES, Site

from openmse.errors import MseError
from openmse.lab import cleanup, client, requirements
from openmse.lab.demo_console import (
    MachineConsole,
    await_api,
    enable_api,
    listening_socket,
)
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.programs import ENABLED, WITNESS_CONFIG_PATH
from openmse.lab.topology import IMAGE_ROOT, Places

NODE_PASSWORD = "correct horse battery"
WITNESS_PASSWORD = "the witness's own password"
PICTURES = os.environ.get("OPENMSE_PICTURES", "")
"""A directory for pictures of what the story shows, in both widths; '' for none."""
WIDTHS = {1440: 900, 390: 844}


class Stage(Site):
    """The machines, the console, and the people in front of it."""

    def __init__(self, lab: Laboratory, console: MachineConsole) -> None:
        super().__init__(lab)
        self.console = console
        self.link = ""
        self.faults: list[str] = []
        self._contexts: list[Any] = []

    def prepare(self) -> None:
        """What an administrator does on each machine before the console is opened."""
        commands: dict[str, tuple[str, ...]] = {
            "mse1": ("node", "init"),
            "mse2": ("node", "init", "--pairing-password-file", "-"),
            "witness": ("witness", "init", "--config", WITNESS_CONFIG_PATH, "--password-file", "-"),
        }
        typed = f"{WITNESS_PASSWORD}\n"
        self.console.start()
        with ThreadPoolExecutor() as pool:
            for one in [
                pool.submit(self.ok, machine, *words, typed=typed)
                for machine, words in commands.items()
            ]:
                one.result()
            for machine in (*NODES, "witness"):
                assert self.run(machine, "touch", ENABLED).returncode == 0
            tasks = [pool.submit(enable_api, self.lab, node, NODE_PASSWORD) for node in NODES]
            for task in tasks:
                task.result()
        for node in NODES:
            await_api(self.lab, node)
            self.until_answers(node)
        self.link = self.console.await_served()

    def person(self, browser: Any) -> Any:
        """Somebody's own browser; a script's error or a breach of policy fails the test."""
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, ignore_https_errors=True, locale="en-GB"
        )
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda m: "Content Security" in m.text and self.faults.append(m.text))
        self._contexts.append(context)
        return page

    def picture(self, page: Any, name: str, *, is_whole: bool = True) -> None:
        """Keep what is to be seen, where somebody asked for it; a dialog is over one screenful."""
        if not PICTURES:
            return
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        for width, height in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": height})
            page.screenshot(path=f"{PICTURES}/{name}-{width}.png", full_page=is_whole)
        page.set_viewport_size({"width": 1440, "height": 900})

    def let_clients_in(self) -> None:
        """Write down how clients reach the pair, for ``sql``."""
        places = ("/var/lib/openmse/postgres/client_password", "/var/lib/openmse/pki/ca.crt")
        password, authority = (self.lab.path_in("mse1", path).read_text() for path in places)
        client.write_files(self.lab.places, password.strip(), authority)

    def close(self) -> None:
        """Nobody looks any more; what went wrong in a browser is told here."""
        for context in self._contexts:
            context.close()
        assert not self.faults, self.faults
        assert "Traceback" not in self.console.said(), self.console.said()


@contextlib.contextmanager
def laboratory_stage() -> Iterator[Stage]:
    """A laboratory of its own with a console, always removed."""
    try:
        requirements.check(str(IMAGE_ROOT))
    except MseError as error:
        pytest.skip(str(error))
    places = Places.of(f"tb{secrets.token_hex(4)}")
    try:
        laboratory = Laboratory._build(places, Wanted(failover_wait_s=2.0), lambda text: None)
        with (
            listening_socket(0, pytest.fail) as sock,
            MachineConsole(laboratory, sock) as console,
        ):
            stage = Stage(laboratory, console)
            stage.prepare()
            yield stage
        laboratory.close()
    finally:
        cleanup.down(places)
