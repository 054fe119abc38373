"""An owner that waits for a new machine: how the wait begins, and how it is ended by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from pair_hosts import Machine, node_config

from openmse.errors import CommandRefused, StateError
from openmse.node.control.commands import ReadmitArgs
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.runtime.readmission import ReadmissionDesk

NEW_PASSWORD = "a machine from the store"


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Machine]:
    """A node that owns and goes on alone: its peer is in the facts, and silent."""
    machine = Machine(node_config(tmp_path, "mse1", 11))
    machine.found()
    assert machine.group is not None
    lost = NodeInfo("mse2", "127.0.0.12", incarnation="b")
    machine.take_group(replace(machine.group, nodes=(*machine.group.nodes, lost)))
    yield machine
    await machine.pairing.close()


@contextlib.asynccontextmanager
async def connected(machine: Machine) -> AsyncIterator[asyncio.StreamReader]:
    """A connection to its pairing port; raises ConnectionRefusedError where that is closed."""
    config = machine.config
    reader, writer = await asyncio.open_connection(config.node.host, config.ports.pairing)
    yield reader
    writer.close()
    await writer.wait_closed()


async def has_begun(machine: Machine) -> None:
    """Wait until the machine converses: a connection that only the kernel has taken is reset when
    the port is closed, and one that was just let in is not known yet."""
    server = machine.pairing._readmission._server
    assert server is not None
    while not server._tasks:
        await asyncio.sleep(0.01)


async def test_a_wait_is_ended_at_once(owner: Machine) -> None:
    with pytest.raises(ConnectionRefusedError):
        async with connected(owner):
            pass
    await owner.pairing.readmit(ReadmitArgs(NEW_PASSWORD))
    assert owner.config.places.readmission.exists()
    async with connected(owner) as conversation:
        await has_begun(owner)
        said = await owner.pairing.readmit_cancel("anna (through root)")
        assert said == "mse1 waits no longer for a machine in place of mse2."
        assert await conversation.read() == b"", "who was on the way is cut off"
    with pytest.raises(ConnectionRefusedError):
        async with connected(owner):
            pass
    assert not owner.config.places.readmission.exists()
    kinds = [note.kind for note in owner.notes]
    assert kinds == ["readmission_open", "readmission_ended"]
    wanted = "anna (through root) ended the wait for a machine in place of mse2."
    assert owner.notes[-1].sentence == wanted
    assert NEW_PASSWORD not in str(owner.notes)
    await owner.pairing.readmit(ReadmitArgs(NEW_PASSWORD))  # and begins anew when it is wanted
    async with connected(owner):
        pass


async def test_a_name_is_on_disk_before_it_is_offered(owner: Machine) -> None:
    desk = ReadmissionDesk(owner.config, owner)
    desk.arm(NEW_PASSWORD, 600.0)
    path = owner.config.places.readmission_names
    blocked = path.with_name(f".{path.name}.new")
    blocked.mkdir()
    with pytest.raises(StateError):
        desk.offer()
    blocked.rmdir()
    assert desk.offer()[0] == "mse2-2"
    assert ReadmissionDesk(owner.config, owner).offer()[0] == "mse2-2", "also after a restart"
    desk.disarm()
    desk.arm(NEW_PASSWORD, 600.0)
    name, offer = ReadmissionDesk(owner.config, owner).offer()
    assert name == "mse2-3"
    assert [node.name for node in msgspec.json.decode(offer.group_info, type=GroupInfo).nodes] == [
        "mse1",
        "mse2-3",
    ]
    path.write_bytes(b"{")
    with pytest.raises(StateError, match="is damaged"):
        desk.offer()


async def test_nobody_who_is_waited_for_is_said(owner: Machine) -> None:
    with pytest.raises(CommandRefused, match="No new machine is waited for") as refused:
        await owner.pairing.readmit_cancel("root")
    assert refused.value.exit_code == 3
    assert owner.notes == []
    owner.config.places.readmission.write_bytes(b"damaged")
    with pytest.raises(CommandRefused):
        await owner.pairing.readmit_cancel("root")
