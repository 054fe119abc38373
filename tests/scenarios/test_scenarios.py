"""Every scenario file comes to what it says; after a wanted change: runner.py --rewrite."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from runner import HERE, Play, read

FILES = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    _, commands, trace = read(path)
    assert Play().run(commands) == trace


def test_there_is_a_file_for_each_shape_of_a_cut() -> None:
    assert len([path for path in FILES if path.stem.startswith("cut_")]) == 9
