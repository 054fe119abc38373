"""Who has a place at the control socket when there are not enough: root is never kept out."""

import asyncio
import contextlib
import grp
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_core import LiveCore, daemon, serving

from openmse.errors import ControlError
from openmse.node.control import server
from openmse.node.control.client import ControlClient
from openmse.node.control.server import MAX_CONNECTIONS, ROOT_PLACES
from openmse.node.control.snapshot import Snapshot

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
]
MEMBER = 65_534
"""User and group; the group stands for ``openmse``, which not every machine has."""
OTHERS = MAX_CONNECTIONS - ROOT_PLACES

_HOLD = """
import os, sys
from openmse.errors import MseError
from openmse.node.control.client import ControlClient
from openmse.node.control.commands import WatchArgs
from pathlib import Path

def ask(client):
    try:
        client.call("status")
        print("done", flush=True)
    except MseError as error:
        print(error.code, error.sentence, error.hint, flush=True)

path, count, member = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setgid(member)
os.setuid(member)
held = [ControlClient(path) for _ in range(count)]
for client in held:
    if sys.argv[4] == "watch":
        next(client.stream("watch", WatchArgs(60.0)))
    else:
        client.call("status")
print("held", flush=True)
for line in sys.stdin:
    if line == "another\\n":
        held.append(ControlClient(path))
    ask(held[-1] if line == "another\\n" else held[int(line)])
"""


class StillCore(LiveCore):
    """A core in which nothing changes: whoever watches waits."""

    async def wait_changed(self, within_s: float) -> None:
        """To the end of the wait."""
        await asyncio.sleep(within_s)


class Holder:
    """A member of the group that holds places."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def line(self) -> str:
        """What it prints next."""
        return self._stdout.readline().rstrip("\n")

    def ask(self, which: int | str) -> str:
        """Have it ask for the status on a connection that it holds, or on ``another``."""
        self._stdin.write(f"{which}\n")
        self._stdin.flush()
        return self.line()


@contextlib.contextmanager
def holder(path: Path, count: int, how: str) -> Iterator[Holder]:
    """A process of a member with so many connections: ``watch`` keeps them busy."""
    command = [sys.executable, "-c", _HOLD, str(path), str(count), str(MEMBER), how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        held = Holder(process)
        assert held.line() == "held"
        yield held
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def path(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a daemon, where nobody is idle however busy the machine is."""
    monkeypatch.setattr(server, "GROUP", grp.getgrgid(MEMBER).gr_name)
    monkeypatch.setattr(server, "IDLE_S", 600.0)
    with daemon(socket_path, StillCore(serving())):
        yield socket_path


def test_others_that_hold_all_their_places_keep_nobody_of_root_out(path: Path) -> None:
    with holder(path, OTHERS, "watch") as member, contextlib.ExitStack() as stack:
        said = member.ask("another")
        assert said.startswith("MSE-CTL-006 Other callers hold every place of the daemon that")
        assert "Root is answered meanwhile." in said
        for _ in range(ROOT_PLACES):
            client = stack.enter_context(ControlClient(path))
            assert client.call("status", type=Snapshot).node == "mse1"
        with ControlClient(path) as client, pytest.raises(ControlError) as refused:
            client.call("status")
        assert refused.value.code == "MSE-CTL-006"
        assert "too many callers" in refused.value.sentence


def test_who_asks_nothing_gives_way_and_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(path, OTHERS, "ask") as member:
        assert member.ask("another").startswith("MSE-CTL-006"), "not at once"
        monkeypatch.setattr(server, "IDLE_S", 0.0)
        assert member.ask(1) == "done"  # so the first, and then the third, have waited longest
        assert [member.ask("another") for _ in range(2)] == ["done", "done"]
        for given in (0, 2):
            said = member.ask(given)
            assert said.startswith("MSE-CTL-006 The daemon closed this connection"), said
        assert (member.ask(1), member.ask(3)) == ("done", "done")
