"""What a machine is: its own name, users, disk and addresses; commands inside it."""

import os
import pty
import signal
import subprocess
import sys

import pytest
from lab_traffic import ECHO, PORT, echoes, running

from openmse.errors import UsageError
from openmse.lab import procs
from openmse.lab.laboratory import Laboratory
from openmse.lab.programs import PYTHON

pytestmark = pytest.mark.root


@pytest.fixture
def lab(bare_lab: Laboratory) -> Laboratory:
    """Nothing is left on the machines: all files may share them."""
    return bare_lab


def test_machine_has_its_own_identity(lab: Laboratory) -> None:
    script = "hostname; cat /etc/hostname; id -u openmse; ls -A /run/openmse 2>/dev/null; echo $$"
    done = lab.exec("mse2", ["sh", "-c", script])
    assert done.stdout.split()[:3] == ["mse2", "mse2", "990"]
    assert int(done.stdout.split()[-1]) < 1000, "not in a PID namespace of its own"
    assert lab.exec("mse1", ["getent", "hosts", "witness"]).stdout.split()[0] in (
        "10.10.10.13",
        "fd00:10:10:10::13",
    )


def test_root_of_the_machine_cannot_change_the_host(lab: Laboratory) -> None:
    for path in ("/usr/bin", "/opt/openmse/venv", "/opt/openmse/src/openmse"):
        assert lab.exec("mse1", ["touch", f"{path}/x"]).returncode == 1, path
    assert lab.exec("mse1", ["sh", "-c", "touch /etc/openmse/mine /made-here"]).returncode == 0
    assert not os.path.exists("/made-here")
    assert not os.path.exists("/etc/openmse/mine")


def test_unprivileged_user_reaches_interpreter_and_database(lab: Laboratory) -> None:
    done = lab.exec("mse1", ["postgres", "--version"], user="openmse")
    assert "PostgreSQL" in done.stdout, done.stderr
    done = lab.exec("mse1", [PYTHON, "-c", "import openmse, psycopg; print('yes')"], user="openmse")
    assert done.stdout == "yes\n", done.stderr


@pytest.mark.parametrize("address", ["10.10.10.12", "fd00:10:10:10::12"])
def test_machines_reach_each_other(lab: Laboratory, address: str) -> None:
    with running(lab, "mse2", ECHO, address, str(PORT)):
        for source in ("mse1", "witness", "client"):
            assert echoes(lab, source, address, wait_s=10)[0] == 1


def test_exit_status_and_output_are_passed_on(lab: Laboratory) -> None:
    assert lab.exec("client", ["sh", "-c", "exit 7"]).returncode == 7
    assert lab.exec("client", ["sh", "-c", "kill -9 $$"]).returncode == 137
    assert lab.exec("client", ["no-such-program"]).returncode == 127
    assert lab.exec("client", ["/etc/hostname"]).returncode == 126
    assert lab.exec("client", ["cat"], input_text="said").stdout == "said"
    with pytest.raises(UsageError, match="no machine 'mse9'"):
        lab.exec("mse9", ["true"])


def test_signals_reach_the_command_and_it_dies_with_its_caller(lab: Laboratory) -> None:
    source = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
print("ready", flush=True)
while True: signal.pause()
"""
    with running(lab, "client", source) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 42
    before = set(lab.processes("client"))
    with running(lab, "client", source) as process:
        inside = [p for p in map(procs.Process.of, set(lab.processes("client")) - before) if p]
        assert inside
        process.kill()
        process.wait(10)
        assert all(command.wait_gone(10) for command in inside)


def test_command_has_the_callers_terminal(lab: Laboratory) -> None:
    controller, terminal = pty.openpty()
    process = lab.popen(
        "client",
        ["sh", "-c", "test -t 0 && test -t 1 && stty size"],
        stdin=terminal,
        stdout=terminal,
        stderr=sys.stderr,
    )
    os.close(terminal)
    assert process.wait(10) == 0
    assert os.read(controller, 100).split() == [b"0", b"0"]
    os.close(controller)


def test_init_restarts_programs_and_reaps_orphans(lab: Laboratory) -> None:
    config = (
        '{"environment": {"PATH": "/usr/bin"}, "programs": '
        '[["fails", ["/usr/bin/sh", "-c", "echo ran >> /tmp/ran; sleep 0.02; exit 3"], "/tmp/may"],'
        ' ["ends", ["/usr/bin/sh", "-c", "echo ran >> /tmp/once"], ""]]}'
    )
    script = (
        f"rm -f /tmp/ran /tmp/once; echo '{config}' > /tmp/boot.json; cd /tmp; "
        "unshare --pid --fork --mount-proc "
        f"{PYTHON} -I /opt/openmse/src/openmse/lab/init.py lab test /tmp/boot.json & init=$!; "
        "sleep 0.2; test -e /tmp/ran && echo early; touch /tmp/may; "
        "until [ $(grep -c ran /tmp/ran 2>/dev/null || true)0 -ge 30 ]; do sleep 0.02; done; "
        "kill -9 $(cat /proc/$init/task/$init/children); wait $init; "
        "grep -c ran /tmp/once; echo done"
    )
    done = lab.exec("client", ["sh", "-c", script], timeout_s=20)
    assert done.stdout.splitlines()[-2:] == ["1", "done"], done.stderr
    assert done.stdout.count("ended with 3") >= 2  # of the third it may not know
    assert done.stdout.count("ended with 0") == 1
    assert "early" not in done.stdout


PAUSE = "import signal; print('ready', flush=True); signal.pause()"


def test_processes_are_seen_from_the_host(lab: Laboratory) -> None:
    with running(lab, "mse1", PAUSE) as process:
        mine = [p for p in lab.processes("mse1") if "pause()" in " ".join(procs.arguments_of(p))]
        assert len(mine) == 1
        assert mine[0] != process.pid
    assert lab.pids("mse1") == {
        "health-monitor": None,
        "guard": None,
        "postgres": None,
        "witness": None,
    }


def test_postmaster_is_found_killed_and_frozen_with_its_children(lab: Laboratory) -> None:
    script = (
        "rm -rf /var/tmp/d; initdb -D /var/tmp/d -A trust -N >/dev/null && "
        "exec postgres -D /var/tmp/d -k /var/tmp -c listen_addresses="
    )
    server = lab.popen(
        "mse2", ["sh", "-c", script], user="openmse", stderr=subprocess.PIPE, text=True
    )
    with server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if "ready to accept connections" in line:
                    break
            postmaster = lab.pids("mse2")["postgres"]
            assert postmaster is not None
            children = procs.descendants_of(postmaster)
            assert len(children) >= 4
            lab.freeze("mse2", "postgres")
            assert {_state(pid) for pid in (postmaster, *children)} == {"T"}
            lab.thaw("mse2", "postgres")
            assert "T" not in {_state(pid) for pid in (postmaster, *children)}
            lab.kill("mse2", "postgres")
            assert server.wait(10) == 137
        finally:
            server.kill()


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
