"""Fixtures of the platform's tests."""

from pathlib import Path

import pytest
from licensing import Deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A deployment with its own key."""
    return Deployment(tmp_path)
