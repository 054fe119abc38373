"""The control socket with a real server, real clients, and everything that is no request."""

import asyncio
import grp
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_core import LiveCore, NoJournal, NoPairing, config, daemon, serving

from openmse.errors import (
    CommandRefused,
    ControlError,
    DaemonDownError,
    PrivilegeError,
    StateError,
    UsageError,
)
from openmse.ha.values import Mode
from openmse.node.control.client import ControlClient
from openmse.node.control.commands import Done, SettingsArgs, SwitchoverArgs, TakeoverArgs
from openmse.node.control.handler import Handler
from openmse.node.control.protocol import MAX_REQUEST_BYTES
from openmse.node.control.server import ControlServer
from openmse.node.control.snapshot import Snapshot


def exchange(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Send bytes, hang up our half, and read all lines of the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
    return [json.loads(line) for line in received.splitlines()]


def test_status_comes_back_as_it_was_made(socket_path: Path) -> None:
    core = LiveCore(serving())
    with daemon(socket_path, core), ControlClient(socket_path) as client:
        picture = client.call("status", type=Snapshot)
    assert (picture.node, picture.role, picture.register.owner) == ("mse1", "primary", "mse1")
    assert picture.state == "PRIMARY_ALONE"
    assert picture.pids == {"health-monitor": 17, "postgres": None}


def test_several_requests_on_one_connection(socket_path: Path) -> None:
    with daemon(socket_path, LiveCore(serving())), ControlClient(socket_path) as client:
        for _ in range(3):
            assert client.call("status", type=Snapshot).node == "mse1"
        with pytest.raises(CommandRefused):
            client.call("switchover", SwitchoverArgs())
        assert client.call("status", type=Snapshot).node == "mse1"


def test_who_asks_through_a_program_is_named_beside_its_user(socket_path: Path) -> None:
    core = LiveCore(serving())
    with daemon(socket_path, core):
        with (
            ControlClient(socket_path, operator="anna of the night shift") as client,
            pytest.raises(CommandRefused),
        ):
            client.call("switchover", SwitchoverArgs())
        lies = b'{"command": "switchover", "operator": "%s"}\n'
        for lie in (b"x" * 129, b"anna\\nroot asked"):
            answers = exchange(socket_path, lies % lie)
            assert [answer["error"]["code"] for answer in answers] == ["MSE-CTL-010"]
    assert core.operators == ["anna of the night shift (through root)"]


def test_watch_sends_pictures_until_hung_up(socket_path: Path) -> None:
    with daemon(socket_path, LiveCore(serving())), ControlClient(socket_path) as client:
        stream = client.stream("watch", within_s=60)
        assert [next(stream).event is not None for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\n",
        b"\n",
        b"{}\n",
        b"[1, 2]\n",
        b'{"command": 7}\n',
        b"\xff\xfe\x00\n",
        b"[" * 20_000 + b"\n",
        b'{"v": 2, "command": "status"}\n',
        b'{"command": "no_such_thing"}\n',
        b'{"command": "switchover", "args": {"too": "mse2"}}\n',
        b'{"command": "switchover", "args": 5}\n',
        b'{"command": "maintenance", "args": {}}\n',
    ],
)
def test_garbage_is_answered_and_changes_nothing(socket_path: Path, garbage: bytes) -> None:
    core = LiveCore(serving())
    before = core.node
    with daemon(socket_path, core):
        answers = exchange(socket_path, garbage + b'{"command": "status", "id": "after"}\n')
    assert answers[0]["error"]["sentence"].endswith((".", ")"))
    assert answers[0]["error"]["code"].startswith("MSE-")
    assert answers[1]["id"] == "after"
    assert "result" in answers[1]
    assert core.node is before


def test_an_endless_line_is_refused_and_the_daemon_lives(socket_path: Path) -> None:
    """By one byte only: of more the daemon may read a part and hang up, and the kernel would tell
    of a reset in place of the answer."""
    with daemon(socket_path, LiveCore(serving())):
        answers = exchange(socket_path, b"x" * (MAX_REQUEST_BYTES + 1) + b"\n")
        assert str(MAX_REQUEST_BYTES) in answers[0]["error"]["sentence"]
        with ControlClient(socket_path) as client:
            assert client.call("status", type=Snapshot).node == "mse1"


def test_a_command_reaches_the_core_and_is_answered(socket_path: Path) -> None:
    core = LiveCore(serving())
    with daemon(socket_path, core), ControlClient(socket_path) as client:
        done = client.call("set_settings", SettingsArgs(failover_wait_s=3.0), type=Done)
    assert done.sentence == "The change is in force."
    assert core.node.record.known is not None
    assert core.node.record.known.settings.failover_wait_ns == 3_000_000_000


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (SettingsArgs(), "No setting"),
        (SettingsArgs(failover_wait_s=1.0), "between 2 s and 120 s"),
        (SettingsArgs(failover_wait_s=500.0), "between 2 s and 120 s"),
        (SettingsArgs(boot_patience_s=3.0), "longer than the failover wait of 5 s"),
        (SettingsArgs(failback_stable_s=-1.0), "between 0 s and 86400 s"),
    ],
)
def test_impossible_settings_change_nothing(
    socket_path: Path, args: SettingsArgs, words: str
) -> None:
    core = LiveCore(serving())
    before = core.node
    with (
        daemon(socket_path, core),
        ControlClient(socket_path) as client,
        pytest.raises(UsageError, match=words),
    ):
        client.call("set_settings", args)
    assert core.node is before


def test_a_takeover_wants_the_right_name(socket_path: Path) -> None:
    core = LiveCore(serving("mse2", config(Mode.ALONE, owner="mse2")))
    before = core.node
    with (
        daemon(socket_path, core),
        ControlClient(socket_path) as client,
        pytest.raises(UsageError, match="this node is 'mse2'"),
    ):
        client.call("takeover", TakeoverArgs("mse1"))
    assert core.node is before


def test_the_core_refuses_with_its_own_sentence(socket_path: Path) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    with (
        daemon(socket_path, core),
        ControlClient(socket_path) as client,
        pytest.raises(CommandRefused, match="mse2 is not heard") as refused,
    ):
        client.call("switchover", SwitchoverArgs("mse2"))
    assert refused.value.exit_code == 3


def test_without_a_daemon(socket_path: Path) -> None:
    with pytest.raises(DaemonDownError, match=str(socket_path)) as down:
        ControlClient(socket_path)
    assert down.value.exit_code == 4
    assert "msed start" in down.value.hint


def test_a_daemon_that_hangs_up_is_told_so(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with ControlClient(socket_path) as client:
            listener.accept()[0].close()
            with pytest.raises(ControlError, match="closed the connection"):
                client.call("status")


def test_a_daemon_that_does_not_answer_is_told_so(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with ControlClient(socket_path) as client, pytest.raises(ControlError) as silent:
            client.call("status", within_s=0.05)
    assert silent.value.code == "MSE-CTL-003"


def test_the_socket_of_a_dead_daemon_is_replaced(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(socket_path))
    with daemon(socket_path, LiveCore(serving())), ControlClient(socket_path) as client:
        assert client.call("status", type=Snapshot).node == "mse1"
    assert not socket_path.exists()


def start_another(path: Path) -> None:
    """Start a server in a loop of its own; raises what it raises."""
    handler = Handler(LiveCore(serving()), NoPairing(), NoJournal())
    asyncio.run(ControlServer(path, handler).start())


def test_a_second_daemon_does_not_start(socket_path: Path) -> None:
    with daemon(socket_path, LiveCore(serving())):
        with pytest.raises(StateError, match="Another daemon"):
            start_another(socket_path)
        with ControlClient(socket_path) as client:
            assert client.call("status", type=Snapshot).node == "mse1"


def test_a_file_in_the_way_is_left_alone(socket_path: Path) -> None:
    socket_path.write_text("precious")
    with pytest.raises(StateError, match="no socket"):
        start_another(socket_path)
    assert socket_path.read_text() == "precious"


_ASK = """
import sys
from openmse.errors import MseError
from openmse.node.control.client import ControlClient
from pathlib import Path
try:
    with ControlClient(Path(sys.argv[1])) as client:
        for command in sys.argv[2:]:
            client.call(command)
            print("done", command)
except MseError as error:
    print(error.code, error.exit_code, error.sentence)
"""


def ask_as(path: Path, *commands: str, **identity: object) -> str:
    """Run a client under another identity."""
    return subprocess.run(
        [sys.executable, "-c", _ASK, str(path), *commands],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        **identity,  # type: ignore[call-overload]
    ).stdout


def can_others_run_python() -> bool:
    """Whether an unprivileged user reaches this interpreter and the package."""
    done = subprocess.run(
        [sys.executable, "-c", "import openmse.node.control.client"],
        user=65_534,
        group=65_534,
        capture_output=True,
        check=False,
        cwd="/",
    )
    return done.returncode == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_strangers_are_not_let_in(socket_path: Path) -> None:
    if not can_others_run_python():
        pytest.skip("the interpreter lies where other users cannot reach it")
    with daemon(socket_path, LiveCore(serving())):
        said = ask_as(socket_path, "status", user=65_534, group=65_534, extra_groups=[])
        assert "MSE-USE-002 2" in said
        socket_path.chmod(0o666)  # even where the file would let them in
        said = ask_as(socket_path, "status", user=65_534, group=65_534, extra_groups=[])
        assert "MSE-USE-002 2 'status' was refused" in said


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_members_of_the_group_may_look_but_not_move(socket_path: Path) -> None:
    try:
        group = grp.getgrnam("openmse").gr_gid
    except KeyError:
        pytest.skip("there is no group openmse on this machine")
    if not can_others_run_python():
        pytest.skip("the interpreter lies where other users cannot reach it")
    with daemon(socket_path, LiveCore(serving())):
        said = ask_as(
            socket_path, "status", "switchover", user=65_534, group=group, extra_groups=[]
        )
    assert said.splitlines()[0] == "done status"
    assert "MSE-USE-002 2 'switchover' was refused" in said


def test_a_refusal_of_privilege_is_an_error_of_usage() -> None:
    assert PrivilegeError("x").exit_code == 2
