"""Laboratories for tests: bare machines by default, each under a random name, always removed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from operating import OnePair, Site

from openmse.errors import MseError
from openmse.lab import cleanup, requirements
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.topology import IMAGE_ROOT, Places

LONG = (
    "test_product_operating.py",
    "test_product_pairing.py",
    "test_product_witness.py",
)
"""Files that take longer than a minute, of those that are not ``alone``."""


def why_no_laboratory() -> str:
    """The reason why laboratories cannot be built here, or ''."""
    try:
        requirements.check(str(IMAGE_ROOT))
    except MseError as error:
        return str(error)
    return ""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where it cannot be had; and the files with the one pair come last, so
    that no other laboratory is built while it is there: of these, those that take longest first, so
    that at the end of the phase no worker waits for the other."""
    paired = {item.path for item in items if "one_pair" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (item.path in paired, item.path.name not in LONG))
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


@pytest.fixture(scope="session")
def bare() -> Iterator[Laboratory]:
    """Bare machines for all files that leave nothing on them; use them through ``bare_lab``."""
    with _bare() as found:
        yield found


@contextmanager
def _bare() -> Iterator[Laboratory]:
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
def bare_lab(bare: Laboratory) -> Iterator[Laboratory]:
    """The shared bare machines, all with power and healed cables."""
    yield from _with_power(bare)


@pytest.fixture(scope="module")
def shared() -> Iterator[Laboratory]:
    """Bare machines for the tests of one module; use them through ``lab``."""
    with _bare() as found:
        yield found


@pytest.fixture
def lab(shared: Laboratory) -> Iterator[Laboratory]:
    """The module's bare machines, all with power and healed cables."""
    yield from _with_power(shared)


def _with_power(laboratory: Laboratory) -> Iterator[Laboratory]:
    for machine in laboratory.machines:
        if not laboratory.has_power(machine):
            laboratory.power_on(machine)
    yield laboratory
    laboratory.heal()


@pytest.fixture(scope="session")
def one_pair() -> Iterator[OnePair]:
    """The pair that several files share; use it through ``pair`` or ``home``."""
    found = OnePair()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def pair(one_pair: OnePair) -> Site:
    """The shared pair in SYNC, everything with power, owned by either node."""
    return one_pair.mended()


@pytest.fixture
def home(one_pair: OnePair) -> Site:
    """The same, owned by mse1, its primary."""
    return one_pair.mended("mse1")
