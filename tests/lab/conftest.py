"""Laboratories for tests: bare machines by default, each under a random name, always removed."""

import os
import secrets
from collections.abc import Iterator

import pytest

from openmse.errors import MseError
from openmse.lab import cleanup, requirements
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.topology import IMAGE_ROOT, Places


def why_no_laboratory() -> str:
    """The reason why laboratories cannot be built here, or ''."""
    try:
        requirements.check(str(IMAGE_ROOT))
    except MseError as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where it cannot be had."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: namespaces and loop devices"))


@pytest.fixture
def lab_name() -> Iterator[str]:
    """A name no other laboratory has; whatever is built under it is removed."""
    reason = why_no_laboratory()
    if reason:
        pytest.skip(reason)
    name = f"t{secrets.token_hex(4)}"
    try:
        yield name
    finally:
        cleanup.down(Places.of(name))


@pytest.fixture(scope="module")
def shared() -> Iterator[Laboratory]:
    """Bare machines for the tests of one module; use them through ``lab``."""
    reason = why_no_laboratory()
    if reason:
        pytest.skip(reason)
    name = f"t{secrets.token_hex(4)}"
    try:
        laboratory = Laboratory.up(name, Wanted(is_bare=True))
        yield laboratory
        laboratory.close()
    finally:
        cleanup.down(Places.of(name))


@pytest.fixture
def lab(shared: Laboratory) -> Iterator[Laboratory]:
    """Bare machines, all with power and healed cables."""
    for machine in shared.machines:
        if not shared.has_power(machine):
            shared.power_on(machine)
    yield shared
    shared.heal()
