"""``mse lab demo``: a short run to its end, and one that is stopped while it builds."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from openmse.lab.cleanup import remains
from openmse.lab.report import page
from openmse.lab.report_story import Story
from openmse.lab.topology import Places

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
    name, report = f"t{secrets.token_hex(3)}", tmp_path / "demo-report.html"
    only = ("--only", "failback", "--only", "switchover", "--failover-wait", "2")
    with _demo("--name", name, "--report", str(report), *only) as process:
        shown, errors = process.communicate(timeout=200)
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
            assert process.stdout is not None
            assert process.stderr is not None
            deadline = time.monotonic() + 60
            while "preparing mse1" not in (line := process.stdout.readline()):
                assert line, process.stderr.read()
                assert time.monotonic() < deadline
            process.send_signal(number)
        for _, name, process in runs:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 130, errors
            assert "removed" in errors
            assert remains(Places.of(name)) == []
    assert not Path(page_path).exists()
