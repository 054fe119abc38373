"""Certificates renewed by the real child process, under files as a node keeps them."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from openmse.errors import DriverError, MseError
from openmse.node.config import (
    GroupSection,
    NodeConfig,
    NodeSection,
    PathsSection,
    Role,
)
from openmse.node.group import GroupInfo
from openmse.node.identity import create_group, keyring
from openmse.node.renewal import Renewals, Task, days_left, renew_if_due
from openmse.pki.authority import belongs, describe
from openmse.pki.renewal import DAY_S


@pytest.fixture
def config(unix_user: str) -> Iterator[NodeConfig]:
    with tempfile.TemporaryDirectory(prefix="omse-renewal-") as directory:
        yield NodeConfig(
            node=NodeSection(name="mse1", role=Role.PRIMARY, address="10.10.10.11/24"),
            group=GroupSection(virtual_ips=("10.10.10.50/24",)),
            paths=PathsSection(state_dir=directory, run_dir=directory),
        )


@pytest.fixture
def group(config: NodeConfig) -> GroupInfo:
    return create_group(config)


def files(config: NodeConfig) -> dict[str, bytes]:
    base: Path = keyring(config).directory
    return {str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*") if p.is_file()}


def test_nothing_is_renewed_before_its_time(config: NodeConfig, group: GroupInfo) -> None:
    before = files(config)
    assert renew_if_due(Task(config, group, time.time() + 200 * DAY_S)) == ""
    assert files(config) == before


def test_all_certificates_are_renewed_for_the_same_key(
    config: NodeConfig, group: GroupInfo
) -> None:
    before = files(config)
    assert "Two thirds" in renew_if_due(Task(config, group, time.time() + 250 * DAY_S))
    after = files(config)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"node.crt", "postgres/server.crt", "postgres/replication.crt"}
    assert belongs(after["node.crt"], after["node.key"])
    assert belongs(after["postgres/server.crt"], after["postgres/server.key"])
    assert not belongs(after["node.crt"], after["postgres/server.key"])
    status = (keyring(config).database / "server.key").stat()
    assert status.st_mode & 0o777 == 0o600


async def test_a_new_address_is_certified_by_the_child(
    config: NodeConfig, group: GroupInfo
) -> None:
    told: list[str] = []
    failed: list[MseError] = []
    moved = msgspec.structs.replace(group, virtual_ips=("10.10.10.60/24",))
    renewals = Renewals(
        config, group=lambda: moved, on_renewed=told.append, on_failed=failed.append
    )
    assert renewals.days_left is None
    await renewals.check()
    assert 363 <= renewals.days_left <= 365
    assert told == ["The certificate lacks an address by which this node is reached."]
    facts = describe(keyring(config).certificate.read_bytes())
    assert facts.addresses == ("10.10.10.11", "10.10.10.60")
    await renewals.check()
    assert len(told) == 1
    assert not failed


async def test_a_failure_says_why_and_leaves_the_files(
    config: NodeConfig, group: GroupInfo
) -> None:
    keyring(config).authority_key.unlink()
    moved = msgspec.structs.replace(group, virtual_ips=("10.10.10.60/24",))
    before = files(config)
    renewals = Renewals(config, group=lambda: moved, on_renewed=print, on_failed=print)
    with pytest.raises(DriverError, match=r"could not be renewed: .*ca\.key"):
        await renewals.check()
    assert renewals.days_left in (364, 365), "what is there is told although it was not renewed"
    assert days_left(config, time.time() + 400 * DAY_S) in (-36, -35)
    assert files(config) == before


async def test_an_unpaired_node_has_nothing_to_renew(config: NodeConfig) -> None:
    await Renewals(config, group=lambda: None, on_renewed=print, on_failed=print).check()
