"""``mse lab demo`` stopped in the middle leaves nothing behind and says so."""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openmse.lab.cleanup import remains
from openmse.lab.topology import Places

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="a laboratory needs root"),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_builds_it_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    name = f"t{secrets.token_hex(3)}"
    command = [sys.executable, "-c", "from openmse.cli.main import main; main()"]
    command += ["lab", "demo", "--quick", "--name", name, "--report", str(tmp_path / "r.html")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = time.monotonic() + 60
        while b"preparing mse1" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
            assert time.monotonic() < deadline
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"removed" in errors
    assert remains(Places.of(name)) == []
    assert not (tmp_path / "r.html").exists()
