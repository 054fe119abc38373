"""Pairing, another witness, and parting again, through the daemon's side of the commands."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from pair_hosts import PASSWORD, Machine, follower, free_port, node_config, with_cable

from openmse.errors import CommandRefused, MseError, PairingError, UsageError
from openmse.ha.values import Voter
from openmse.node import group as group_file
from openmse.node.control.commands import PairArgs, WitnessArgs
from openmse.node.direct import without_direct
from openmse.node.group import GroupInfo, NodeInfo, WitnessInfo
from openmse.node.identity import keyring
from openmse.node.runtime.notices import DirectTold, Dissolve, GroupTold
from openmse.node.runtime.pairing_desk import unfit
from openmse.pki.authority import describe, verify
from openmse.pki.files import read_file
from openmse.pki.names import Role
from openmse.pki.pairing_server import PairingServer
from openmse.pki.password import PairingStore
from openmse.witness.config import PathsPart, PortsPart, WitnessConfig, WitnessPart
from openmse.witness.enrolment import Enrolment
from openmse.witness.server import WitnessServer

WITNESS_PASSWORD = "three can keep a secret"
WITNESS_ADDRESS = "127.0.0.13"


async def no_progress(step: str) -> None:
    """Nobody watches."""


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[tuple[Machine, Machine]]:
    """An unpaired primary, and a secondary that waits with its password."""
    first = Machine(node_config(tmp_path, "mse1", 11))
    second = Machine(node_config(tmp_path, "mse2", 12))
    first.found()
    PairingStore(second.config.places.pairing_password).set_password(PASSWORD)
    await second.pairing.refresh()
    yield first, second
    await first.pairing.close()
    await second.pairing.close()


@contextlib.asynccontextmanager
async def waiting_witness(directory: Path) -> AsyncIterator[WitnessArgs]:
    """A real witness that waits with its password, and how to enrol it."""
    config = WitnessConfig(
        witness=WitnessPart(name="witness", address=WITNESS_ADDRESS),
        ports=PortsPart(witness_tls=0, witness_udp=0, pairing=free_port(WITNESS_ADDRESS)),
        paths=PathsPart(state_dir=str(directory / "w"), run_dir=str(directory / "wr")),
    )
    (directory / "w").mkdir(parents=True)
    store = PairingStore(config.password_file)
    store.set_password(WITNESS_PASSWORD)
    server = WitnessServer(config)
    await server.open()
    bind = (WITNESS_ADDRESS, config.ports.pairing)
    desk = PairingServer(store, Enrolment(config, server), bind=bind, is_one_shot=False)
    await desk.open()
    yield WitnessArgs("console", "witness", WITNESS_ADDRESS, bind[1], WITNESS_PASSWORD)
    await desk.close()
    await server.close()


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[WitnessArgs]:
    """One for the test."""
    async with waiting_witness(tmp_path) as found:
        yield found


def args(second: Machine, witness: WitnessArgs | None = None, password: str = PASSWORD) -> PairArgs:
    """What the command line would send."""
    node = second.config
    return PairArgs(node.node.host, password, node.ports.pairing, witness)


async def pair(first: Machine, second: Machine, witness: WitnessArgs | None = None) -> None:
    """Pair, and connect the two."""
    await first.pairing.pair(args(second, witness), no_progress)
    first.other, second.other = second, first


def names(machine: Machine) -> set[str]:
    """The voters that the machine's core knows."""
    known = machine.node.record.known
    assert known is not None
    return {voter.id for voter in known.voters}


async def test_pairing_with_a_witness(
    machines: tuple[Machine, Machine], witness: WitnessArgs
) -> None:
    first, second = machines
    steps: list[str] = []

    async def progress(step: str) -> None:
        steps.append(step)

    sentence = await first.pairing.pair(args(second, witness), progress)
    assert sentence.startswith("mse1 and mse2 are a pair.")
    assert len(steps) == 3
    assert names(first) == {"mse1", "mse2", "witness"}
    mine, theirs = first.group, second.group
    assert mine is not None
    assert theirs == mine
    assert mine == group_file.load(first.config.places.group)
    assert mine == group_file.load(second.config.places.group)
    assert mine.witness is not None
    assert (mine.witness.address, mine.witness.kind) == (WITNESS_ADDRESS, "console")
    rings = [keyring(machine.config) for machine in machines]
    assert rings[0].roots(mine, "mse1")["mse2"] == rings[1].roots(mine, "mse2")["mse1"]
    assert rings[0].roots(mine, "mse1")["witness"] == rings[1].roots(mine, "mse2")["witness"]
    facts = verify(rings[1].certificate.read_bytes(), rings[0].authority.read_bytes())
    assert (facts.identity.role, facts.identity.id) == (Role.NODE, "mse2")
    assert set(facts.addresses) == {"127.0.0.12", "127.0.0.100"}
    assert (rings[1].key.stat().st_mode & 0o777) == 0o600
    database = rings[1].database
    client = verify((database / "replication.crt").read_bytes(), rings[0].authority.read_bytes())
    assert client.identity.role is Role.REPLICATION
    assert PASSWORD not in str(first.notes) + str(second.notes)


async def test_a_wrong_password_changes_nothing(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    before = first.group
    with pytest.raises(PairingError, match="The password is not the one"):
        await first.pairing.pair(args(second, password="wrong password"), no_progress)
    assert first.group == before
    assert names(first) == {"mse1"}
    assert second.group is None
    assert not keyring(second.config).key.exists()
    await pair(first, second)  # the right one still works


async def test_nobody_there_changes_nothing(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await second.pairing.close()
    with pytest.raises(PairingError, match=r"Nobody answers at 127\.0\.0\.12"):
        await first.pairing.pair(args(second), no_progress)
    assert names(first) == {"mse1"}


async def test_a_witness_that_refuses_leaves_the_nodes_alone(
    machines: tuple[Machine, Machine], witness: WitnessArgs
) -> None:
    first, second = machines
    wrong = msgspec.structs.replace(witness, password="not the witness's")
    with pytest.raises(PairingError):
        await first.pairing.pair(args(second, wrong), no_progress)
    assert second.group is None
    assert first.group is not None
    assert len(first.group.nodes) == 1


async def test_the_second_pairing_is_refused(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await pair(first, second)
    with pytest.raises(CommandRefused, match="not paired yet"):
        await first.pairing.pair(args(second), no_progress)


async def test_only_a_primary_pairs(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    with pytest.raises(CommandRefused):
        await second.pairing.pair(args(first), no_progress)


async def test_the_own_address_is_no_peer(machines: tuple[Machine, Machine]) -> None:
    first, _ = machines
    with pytest.raises(UsageError, match="an address of this node"):
        await first.pairing.pair(PairArgs("127.0.0.11", PASSWORD), no_progress)
    with pytest.raises(UsageError, match="an address of this node"):
        await first.pairing.pair(PairArgs("127.0.0.100", PASSWORD), no_progress)


async def test_machines_that_do_not_fit_are_refused_on_the_secondary(tmp_path: Path) -> None:
    first = Machine(node_config(tmp_path, "mse1", 11))
    second = Machine(node_config(tmp_path, "mse2", 12, port=5999))
    first.found()
    PairingStore(second.config.places.pairing_password).set_password(PASSWORD)
    await second.pairing.refresh()
    try:
        with pytest.raises(MseError, match="both nodes of a group use the same"):
            await first.pairing.pair(args(second), no_progress)
        assert second.group is None
        assert names(first) == {"mse1"}
    finally:
        await second.pairing.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"virtual_ips": ("127.0.0.12/8",)}, "is the own address of mse2"),
        ({"virtual_ips": ("10.0.0.1/8",)}, "lies outside the network 127.0.0.0/8"),
        ({"virtual_ips": ("fd00::1/64",)}, "no address of the kind"),
        ({"nodes": (NodeInfo("mse1", "127.0.0.12"),)}, "have the same address"),
        ({"nodes": (NodeInfo("mse1", "127.0.0.11", database_port=1),)}, "listens on port 1"),
        ({"witness": WitnessInfo("w", "console", "127.0.0.12")}, "would be mse2 itself"),
        ({}, ""),
    ],
)
def test_what_does_not_fit(tmp_path: Path, change: dict[str, object], words: str) -> None:
    info = GroupInfo("g", "mse1", (NodeInfo("mse1", "127.0.0.11"),), ("127.0.0.100/8",))
    said = unfit(node_config(tmp_path, "mse2", 12), msgspec.structs.replace(info, **change), "mse1")
    assert words in said
    assert bool(said) == bool(words)


async def test_replacing_and_removing_the_witness(
    machines: tuple[Machine, Machine], witness: WitnessArgs
) -> None:
    first, second = machines
    await pair(first, second)
    assert names(first) == {"mse1", "mse2"}
    assert await first.pairing.replace_witness(witness) == "witness is the witness now."
    assert names(first) == {"mse1", "mse2", "witness"}
    first.pairing.on_link_up()
    await asyncio.sleep(0)
    assert second.group == first.group
    assert keyring(second.config).witness.read_bytes() == keyring(first.config).witness.read_bytes()
    await first.pairing.remove_witness()
    assert names(first) == {"mse1", "mse2"}
    with pytest.raises(CommandRefused, match="has no witness"):
        await first.pairing.remove_witness()


async def test_another_witness_of_the_same_name_is_waited_for_itself(
    machines: tuple[Machine, Machine], witness: WitnessArgs, tmp_path: Path
) -> None:
    first, second = machines
    await pair(first, second, witness)
    async with waiting_witness(tmp_path / "another") as another:
        replacing = asyncio.ensure_future(first.pairing.replace_witness(another))
        before = first.group
        while first.group == before:
            await asyncio.sleep(0.01)
        assert first.group is not None
        assert first.group.witness is not None
        new = first.group.witness.incarnation
        assert await asyncio.wait({replacing}, timeout=0.2) == (set(), {replacing})
        known = first.node.record.known
        assert known is not None
        assert Voter("witness", new, True) not in known.voters
        first.hear_witness(new)
        assert await replacing == "witness is the witness now."
    known = first.node.record.known
    assert known is not None
    assert Voter("witness", new, True) in known.voters


async def test_older_facts_are_not_taken_over(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await pair(first, second)
    old = second.group
    assert old is not None
    newer = msgspec.structs.replace(old, revision=old.revision + 5, virtual_ips=())
    second.take_group(newer)
    second.pairing.on_notice(GroupTold(old))
    assert second.group == newer
    await asyncio.sleep(0)  # it answered with what it has
    assert first.group == newer
    foreign = msgspec.structs.replace(newer, group="other", revision=99)
    second.pairing.on_notice(GroupTold(foreign))
    assert second.group == newer


async def test_facts_that_cannot_be_saved_are_told_and_end_nothing(
    machines: tuple[Machine, Machine],
) -> None:
    first, second = machines
    await pair(first, second)
    old = second.group
    assert old is not None
    blocked = second.config.places.group.with_name(".group.json.new")
    blocked.mkdir()  # what the new facts would be written to
    second.pairing.on_notice(GroupTold(msgspec.structs.replace(old, revision=50)))
    assert second.group == old
    assert second.notes[-1].kind == "group_not_saved"
    blocked.rmdir()
    second.pairing.on_notice(GroupTold(msgspec.structs.replace(old, revision=50)))
    assert second.group is not None
    assert second.group.revision == 50


async def test_unpairing_from_the_owner(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await pair(first, second)
    follower(second, first)
    with pytest.raises(CommandRefused, match="mse2 cannot be told"):
        await first.pairing.unpair(without_peer=False)
    assert names(first) == {"mse1", "mse2"}
    first.hear("mse2", "b")
    sentence = await first.pairing.unpair(without_peer=False)
    assert sentence == "The pair is dissolved; mse1 serves on, unpaired."
    assert names(first) == {"mse1"}
    assert second.has_forgotten
    known = first.node.record.known
    assert known is not None
    assert not known.settings.maintenance
    with pytest.raises(CommandRefused, match="not paired"):
        await first.pairing.unpair(without_peer=True)


async def test_unpairing_without_the_peer(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await pair(first, second)
    first.other = None
    sentence = await first.pairing.unpair(without_peer=True)
    assert "mse2 does not know it" in sentence
    assert names(first) == {"mse1"}
    follower(second, first)
    second.other = None
    with pytest.raises(CommandRefused, match="cannot be told"):
        await second.pairing.unpair(without_peer=False)
    assert "forgotten the group" in await second.pairing.unpair(without_peer=True)
    assert second.group is None


async def test_unpairing_from_the_other_node(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await pair(first, second)
    follower(second, first)
    first.hear("mse2", "b")
    sentence = await second.pairing.unpair(without_peer=False)
    assert "mse1 serves on" in sentence
    assert second.group is None
    while names(first) != {"mse1"}:
        await asyncio.sleep(0.01)


async def test_a_foreign_order_to_dissolve_is_ignored(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    await pair(first, second)
    follower(second, first)
    second.pairing.on_notice(Dissolve("some other group"))
    first.pairing.on_notice(Dissolve(first.group.group if first.group else ""))
    await asyncio.sleep(0.05)
    assert not second.has_forgotten
    assert not first.has_forgotten


def test_the_password_is_not_kept(machines: tuple[Machine, Machine]) -> None:
    _, second = machines
    assert PASSWORD.encode() not in second.config.places.pairing_password.read_bytes()


async def test_both_ends_of_a_direct_connection_are_told_while_pairing(tmp_path: Path) -> None:
    first = Machine(with_cable(node_config(tmp_path, "mse1", 11), "192.168.77.1/30"))
    second = Machine(with_cable(node_config(tmp_path, "mse2", 12), "192.168.77.2/30"))
    first.found()
    PairingStore(second.config.places.pairing_password).set_password(PASSWORD)
    await second.pairing.refresh()
    try:
        first.hear("mse2", "b")
        args = PairArgs(
            peer="127.0.0.12", password=PASSWORD, pairing_port=second.config.ports.pairing
        )
        await first.pairing.pair(args, no_progress)
        assert first.group is not None
        assert second.group is not None
        for group in (first.group, second.group):
            ends = {node.name: node.direct for node in group.nodes}
            assert ends == {"mse1": "192.168.77.1", "mse2": "192.168.77.2"}
        assert b"192.168.77.2" not in msgspec.json.encode(without_direct(first.group))
        names = describe(read_file(keyring(second.config).certificate)).addresses
        assert "192.168.77.2" in names
    finally:
        await first.pairing.close()
        await second.pairing.close()


async def test_an_end_that_appears_or_goes_is_told_over_the_link(
    machines: tuple[Machine, Machine],
) -> None:
    first, second = machines
    first.hear("mse2", "b")
    args = PairArgs(peer="127.0.0.12", password=PASSWORD, pairing_port=second.config.ports.pairing)
    await first.pairing.pair(args, no_progress)
    follower(second, first)
    first.other, second.other = second, first
    second.pairing.on_link_up()  # none has a direct connection: nothing but the facts is told
    await asyncio.sleep(0.01)
    assert second.group is not None
    assert first.group is not None
    name, revision = first.group.group, first.group.revision
    first.pairing.on_notice(DirectTold(name, "192.168.77.2"))
    assert first.group.peer_of("mse1").direct == "192.168.77.2"  # type: ignore[union-attr]
    first.pairing.on_notice(DirectTold(name, "nonsense"))
    first.pairing.on_notice(DirectTold("another", ""))
    assert first.group.peer_of("mse1").direct == "192.168.77.2"  # type: ignore[union-attr]
    # Newer facts travel without the ends, and leave them as they are.
    told = without_direct(msgspec.structs.replace(first.group, revision=revision + 1))
    first.pairing.on_notice(GroupTold(told))
    assert first.group.revision == revision + 1
    assert first.group.peer_of("mse1").direct == "192.168.77.2"  # type: ignore[union-attr]
    first.pairing.on_notice(DirectTold(name, ""))
    assert first.group.peer_of("mse1").direct == ""  # type: ignore[union-attr]


def test_ends_in_different_networks_do_not_pair(tmp_path: Path) -> None:
    config = with_cable(node_config(tmp_path, "mse2", 12), "192.168.77.2/30")
    node = NodeInfo("mse1", "127.0.0.11", direct_address="192.168.99.1")
    node = msgspec.structs.replace(node, database_port=config.database.port)
    info = GroupInfo("g", "mse1", (node,), ("127.0.0.100/8",))
    assert "192.168.99.1 of mse1 lies outside" in unfit(config, info, "mse1")
    same = msgspec.structs.replace(node, direct_address="192.168.77.1")
    assert unfit(config, msgspec.structs.replace(info, nodes=(same,)), "mse1") == ""
