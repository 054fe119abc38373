"""The pure parts of the engine: who holds a port, who holds a lock, what a node waits for."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from openmse.guard.processes import start_time
from openmse.install.engine import keeper, listening, look, parts, start
from openmse.install.engine.parts import Listening

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 4711 1 0
   1: 0B0A0A0A:210D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
   2: 0100007F:1538 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   104        0 4713 1 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st ...
   0: 00000000000000000000000000000000:1538 00000000000000000000000000000000:0000 0A 0 0 0 0 0 9
"""


def test_the_kernels_table_is_read() -> None:
    found = list(listening.parse("TCP", TCP))
    assert [(s.host, s.port, s.inode) for s in found] == [
        ("127.0.0.1", 5432, 4711),
        ("10.10.10.11", 8461, 4712),
    ]
    assert [(s.host, s.port) for s in listening.parse("TCP", TCP6)] == [("::", 5432)]


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Listening("TCP", "*", 5432, ""), {4711, 9}),
        (Listening("TCP", "10.10.10.11", 5432, ""), {9}),
        (Listening("TCP", "10.10.10.11", 8461, ""), {4712}),
        (Listening("TCP", "10.10.10.12", 8461, ""), set()),
        (Listening("UDP", "10.10.10.11", 8461, ""), set()),
    ],
)
def test_only_what_overlaps_is_in_the_way(wanted: Listening, taken: set[int]) -> None:
    found = [*listening.parse("TCP", TCP), *listening.parse("TCP", TCP6)]
    assert {s.inode for s in listening.conflicts(wanted, found)} == taken


def test_the_holder_of_a_real_port_is_found() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        (holder,) = listening.holders([Listening("TCP", "127.0.0.1", port, "x")])
        assert holder.pid == os.getpid()
        assert holder.program
    assert listening.holders([Listening("TCP", "127.0.0.1", port, "x")]) == []


def test_a_lock_is_seen_without_being_touched(tmp_path: Path) -> None:
    path = tmp_path / parts.GUARD_LOCK
    assert look.guard_of(str(tmp_path)) == 0
    path.touch()
    assert look.guard_of(str(tmp_path)) == 0
    code = "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert look.guard_of(str(tmp_path)) == holder.pid
        holder.communicate(b"\n")
    assert look.guard_of(str(tmp_path)) == 0


def test_an_identity_of_another_process_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    mine = start_time(os.getpid())
    assert mine is not None
    for text in ("", "x y", f"{os.getpid()}", f"{os.getpid()} {mine + 1}", "0 0", "-1 5"):
        path.write_text(text)
        assert keeper.find(str(path)) is None, text
    path.write_text(f"{os.getpid()} {mine}\n")
    found = keeper.find(str(path))
    assert found is not None
    found.close()


def test_delays_grow_and_have_an_end() -> None:
    delays = [keeper.restart_delay_s(deaths) for deaths in range(1, 20)]
    assert delays[0] == 0.1
    assert delays == sorted(delays)
    assert delays[-1] == 5.0


def test_the_reason_is_our_own_error_if_there_is_one() -> None:
    log = ['{"event": "x"}', "MSE-STA-001: It is so.", "something after"]
    assert start.reason_in(log) == "Its last words: MSE-STA-001: It is so. "
    assert start.reason_in(["2026 keeper: x ended", "boom"]) == "Its last words: boom "
    assert start.reason_in(["2026 keeper: x ended with 1", '{"event": 1}']) == ""


@pytest.fixture
def management(tmp_path: Path) -> Path:
    return tmp_path / "management.toml"


def test_the_address_of_the_management_api(management: Path) -> None:
    from openmse.node.config_load import parse

    text = '[node]\nname = "a"\nrole = "secondary"\naddress = "10.10.10.11/24"\n'
    config = parse(text, Path("x"))
    assert parts.admin_address(config, management) == ("10.10.10.11", 8466)
    management.write_text('[management]\naddress = "127.0.0.1"\nport = 9000\n')
    assert parts.admin_address(config, management) == ("127.0.0.1", 9000)
    for text in (
        "[management]\nport = true\n",
        "management = 3\n",
        "nonsense",
        '[management]\nport = "x"\n',
    ):
        management.write_text(text)
        assert parts.admin_address(config, management) == ("10.10.10.11", 8466)
