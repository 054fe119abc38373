"""``make test`` itself: three phases, each to its end, and one answer."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
[pytest]
markers =
    alone: nothing runs beside it
    laboratory: only others run beside it
    slow: not run here
"""
TESTS = {
    "test_beside.py": "import os\ndef test_it(): assert 'PYTEST_XDIST_WORKER' in os.environ\n",
    "test_too.py": "def test_it(): assert True\ndef test_wrong(): assert False\n",
    "test_laboratory.py": (
        "import os, pytest\npytestmark = pytest.mark.laboratory\n"
        "def test_it(): assert 'PYTEST_XDIST_WORKER' in os.environ\n"
        "@pytest.mark.alone\n"
        "def test_quick(): assert 'PYTEST_XDIST_WORKER' not in os.environ\n"
    ),
    "test_alone.py": (
        "import os, pytest\npytestmark = pytest.mark.alone\n"
        "def test_it(): assert 'PYTEST_XDIST_WORKER' not in os.environ\n"
        "@pytest.mark.skip(reason='not here')\ndef test_skipped(): pass\n"
        "@pytest.mark.slow\ndef test_slow(): assert False\n"
    ),
}


def _run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    (folder / "pytest.ini").write_text(SETTINGS)
    for name, text in TESTS.items():
        (folder / name).write_text(text)
    command = [
        sys.executable,
        str(ROOT / "tests" / "everything.py"),
        "-m",
        "not slow",
        "--jobs",
        "1",
    ]
    command += ["-c", str(folder / "pytest.ini"), "-p", "no:cacheprovider", *arguments]
    outside = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [*command, str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=outside,  # this test itself may be run by a worker
    )
    told = done.stdout.partition("=== all tests")[2].splitlines()[1:]
    return done.returncode, [line.rpartition(" in ")[0] or line for line in told]


def test_a_failure_does_not_keep_the_rest_from_being_run(tmp_path: Path) -> None:
    assert _run(tmp_path) == (
        1,
        [
            "side by side    2 passed, 1 failed",
            "laboratories    1 passed",
            "one by one      2 passed, 1 skipped",
            "FAILED test_too.py::test_wrong",
        ],
    )


def test_one_empty_phase_is_no_failure(tmp_path: Path) -> None:
    assert _run(tmp_path, "-k", "skipped") == (
        0,
        ["side by side    no tests", "laboratories    no tests", "one by one      1 skipped"],
    )
