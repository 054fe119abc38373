"""Fixtures of the control socket's tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A short path (Unix sockets allow 107 bytes) in a directory that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "control.sock"
