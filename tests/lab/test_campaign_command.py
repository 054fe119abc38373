"""``mse lab campaign`` for real: one run on a pair of its own, then resumed without a run."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from openmse.lab.cleanup import remains
from openmse.lab.state import in_use
from openmse.lab.topology import Places

MSE = [sys.executable, "-c", "from openmse.cli.main import main; main()"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a laboratory needs root")


def _mse(*arguments: str, timeout_s: float = 170) -> subprocess.CompletedProcess[str]:
    command = [*MSE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_one_run_is_judged_kept_and_not_repeated(tmp_path: Path) -> None:
    name, results = f"t{secrets.token_hex(3)}", tmp_path / "results.jsonl"
    command = ["lab", "campaign", "--name", name, "--runs", "1", "--seed", "101"]
    command += ["--failover-wait", "2", "--json", str(results)]
    first = _mse(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    (kept,) = [json.loads(line) for line in results.read_text().splitlines()]
    assert kept["violations"] == []
    assert kept["acknowledged"] > 50
    assert kept["signs"] > 50
    assert kept["gap_ms"] > 500  # seed 101, run 1: the owner is cut off
    assert remains(Places.of(name)) == []
    second = _mse(*command, timeout_s=60)
    assert second.returncode == 0, second.stderr
    assert "already" in second.stdout
    assert len(results.read_text().splitlines()) == 1


def test_bench_refuses_figures_that_do_not_exist(tmp_path: Path) -> None:
    done = _mse("lab", "bench", "--only", "nonsense", "--json", str(tmp_path / "r.jsonl"))
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "power-off" in done.stderr


def test_bench_has_a_table_of_nothing(tmp_path: Path) -> None:
    done = _mse("lab", "bench", "--table", "--json", str(tmp_path / "r.jsonl"))
    assert done.returncode == 0
    assert "Nothing was measured" in done.stdout


@needs_root
def test_without_root_the_demo_says_what_is_missing_and_why(tmp_path: Path) -> None:
    try:
        done = subprocess.run(
            [*MSE, "lab", "demo"], capture_output=True, text=True, user="nobody", cwd="/"
        )
    except PermissionError:
        pytest.skip("the user nobody cannot reach this clone")
    if "ModuleNotFoundError" in done.stderr or "Permission" in done.stderr:
        pytest.skip("the user nobody cannot read this clone")
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert "namespaces" in done.stderr
    assert "sudo" in done.stderr


def test_two_campaigns_do_not_share_a_laboratory(tmp_path: Path) -> None:
    with in_use(Places.of("taken")):
        done = _mse(
            *("lab", "campaign", "--name", "taken", "--runs", "1", "--seed", "1"),
            *("--json", str(tmp_path / "r.jsonl")),
        )
    assert done.returncode == 2
    assert "Another bench or campaign is using the laboratory 'taken'" in done.stderr
