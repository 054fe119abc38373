"""``mse lab demo``: a short run to its end with its console, and one that is stopped early."""

import contextlib
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from openmse.lab import demo_console
from openmse.lab.cleanup import remains
from openmse.lab.laboratory import Laboratory
from openmse.lab.report import page
from openmse.lab.report_story import Story
from openmse.lab.state import State
from openmse.lab.topology import Places, Topology

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="a laboratory needs root"),
]


def _demo(*options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from openmse.cli.main import main; main()", "lab", "demo"]
    return subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "160"},
    )


def test_two_exercises_to_the_end(tmp_path: Path) -> None:
    """The console's port is taken: it says so and takes another, until the demo has ended."""
    name, report = f"t{secrets.token_hex(3)}", tmp_path / "demo-report.html"
    only = ("--only", "failback", "--only", "switchover", "--failover-wait", "2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("--name", name, "--report", str(report), "--console-port", str(port))
        with _demo(*words, *only) as process:
            until(process, f"Port {port} of 127.0.0.1 is in use")
            line = until(process, "Watch it:")
            found = re.search(r"https://127.0.0.1:(\d+)  user (\S+), password (\S+)", line)
            assert found, line
            until(process, "under load")
            look(int(found[1]), found[2], found[3])
            shown, errors = process.communicate(timeout=200)
    with socket.socket() as gone, pytest.raises(ConnectionRefusedError):
        gone.connect(("127.0.0.1", int(found[1])))
    assert process.returncode == 0, shown + errors
    assert remains(Places.of(name)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "demo-report.html",
        "demo-report.json",
    ]
    table = shown.partition("What clients saw")[2]
    heads = ("event", "outage ms", "ordinary client ms", "acknowledged", "lost", "who served")
    assert all(head in table.splitlines()[2] for head in heads), table
    assert "mse1 → mse2" in table
    assert "Nothing was lost" in table
    assert str(report) in table.replace("\n", "")
    story = msgspec.json.decode(report.with_suffix(".json").read_bytes(), type=Story)
    assert [o.event for o in story.outcomes] == ["switchover", "failback"]
    assert [o.served_after for o in story.outcomes] == ["mse2", "mse1"]
    assert all(o.acknowledged > 50 and 0 < o.gap_ms < 5000 for o in story.outcomes)
    assert (story.totals.lost, story.totals.double_presences, story.totals.vanished) == (0, 0, 0)
    assert story.totals.pgbench_transactions
    assert report.read_text() == page(story)


def until(process: "subprocess.Popen[str]", words: str) -> str:
    """Read what a demo shows, on to the line that has these words."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + 90
    while words not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
        assert time.monotonic() < deadline
    return line


def look(port: int, user: str, password: str) -> None:
    """Log in as the printed line says, see the pair, and be refused what a viewer may not."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{port}"
    with httpx.Client(base_url=url, verify=trusting, timeout=30, follow_redirects=True) as client:
        shown = client.post("/login", data={"name": user, "password": password}).text
        token = re.search(r'X-CSRF-Token": "([^"]+)"', shown)
        assert token, shown[:2000]
        client.headers["X-CSRF-Token"] = token[1]
        deadline = time.monotonic() + 20
        while not (pair := client.get("/api/v1/pairs/1").json()).get("owner"):
            assert time.monotonic() < deadline, pair
            time.sleep(0.1)
        assert {pair["owner"], *pair["name"].split(" + ")} == {"mse1", "mse2"}, pair
        refused = client.post("/api/v1/pairs/1/do/switchover", json={})
        assert refused.status_code == 403


def test_a_console_that_cannot_be_is_told_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo goes on without it, and the socket that was opened for it is closed again."""
    monkeypatch.setattr(demo_console, "_NEEDED", ("a_package_that_is_not_there",))
    state = State(name="none", topology=Topology.PAIR, is_bare=False, failover_wait_s=2.0)
    said: list[str] = []
    with demo_console.beside(Laboratory(Places.of("none"), state), 0, said.append):
        pass
    assert len(said) == 1
    assert "needs a_package_that_is_not_there" in said[0]
    assert "goes on without it" in said[0]


def test_stopped_while_it_builds_it_cleans_up(tmp_path: Path) -> None:
    """By either signal; both at once, to save the time."""
    page_path = str(tmp_path / "r.html")
    with contextlib.ExitStack() as running:
        runs = []
        for number in (signal.SIGINT, signal.SIGTERM):
            name = f"t{secrets.token_hex(3)}"
            process = running.enter_context(_demo("--quick", "--name", name, "--report", page_path))
            runs.append((number, name, process))
        for number, _, process in runs:
            until(process, "preparing mse1")
            process.send_signal(number)
        for _, name, process in runs:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 130, errors
            assert "removed" in errors
            assert remains(Places.of(name)) == []
    assert not Path(page_path).exists()
