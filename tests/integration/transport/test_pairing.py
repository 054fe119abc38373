"""Pairing and enrolling over real connections: what passes, what is refused, what a cut leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openmse.errors import CommandRefused, MseError, PairingError, StateError
from openmse.pki import pairing_stream
from openmse.pki.authority import Authority, belongs, describe, verify
from openmse.pki.names import Identity, Role
from openmse.pki.pairing import PairingOffer, PairingResult, pair_with
from openmse.pki.pairing_messages import Code, Facts, Hello, Offer, Refuse, Share
from openmse.pki.pairing_server import Paired, PairingServer, Responder
from openmse.pki.password import FREE_GUESSES, PairingStore
from openmse.sockets import Address
from openmse.wire.datagrams import witness_root
from openmse.wire.frames import HEADER_BYTES, frame

PASSWORD = "correct horse"
AUTHORITY = Authority.create("floor1")
OFFER = PairingOffer(
    kind=Role.NODE,
    me="mse1",
    software="1.0",
    group="floor1",
    authority_certificate=AUTHORITY.certificate_pem,
    authority_key=AUTHORITY.key_pem,
    heartbeat_key=bytes(range(32)),
    virtual_ips=("10.10.10.50",),
    group_info=b"info",
    settings=b"settings",
    register_seed=b"seed",
)
ENROL = msgspec.structs.replace(OFFER, kind=Role.WITNESS)


class Machine:
    """The program around a pairing server."""

    def __init__(self, directory: Path, responder: Responder) -> None:
        self.me = responder
        self.stored: list[Paired] = []
        self.refusals: list[MseError] = []
        self.review_error: MseError | None = None
        self.commit_error: MseError | None = None
        self.store = PairingStore(directory / "pairing.json")
        self.store.set_password(PASSWORD)
        self.now_s = 1000.0
        self.server = PairingServer(
            self.store,
            self,
            bind=("127.0.0.1", 0),
            is_one_shot=responder.role is Role.NODE,
            clock=lambda: self.now_s,
            on_refused=lambda error, _: self.refusals.append(error),
        )

    def responder(self) -> Responder:
        return self.me

    def facts(self) -> Facts:
        return Facts(self.me.id, "b2", self.me.software, ("10.10.10.12",), (), b"machine", b"x")

    def review(self, initiator: str, offer: Offer) -> None:
        if self.review_error is not None:
            raise self.review_error

    async def commit(self, paired: Paired) -> None:
        if self.commit_error is not None:
            raise self.commit_error
        self.stored.append(paired)

    async def pair(self, offer: PairingOffer = OFFER, password: str = PASSWORD) -> PairingResult:
        return await pair_with(*self.server.address, password, offer)


Make = Callable[..., Awaitable[Machine]]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Machine] = []

    async def make(name: str = "mse2", role: Role = Role.NODE, **changes: Any) -> Machine:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Machine(directory, Responder(name, role, "1.0", **changes)))
        await made[-1].server.open()
        return made[-1]

    yield make
    for one in made:
        await one.server.close()


async def test_a_pair_is_made(machine: Make, until: Any) -> None:
    two = await machine()
    result = await two.pair()
    (paired,) = two.stored
    assert paired.initiator == "mse1"
    assert paired.fingerprint == result.fingerprint
    assert paired.certificate == result.certificate
    assert result.facts.machine == b"machine"
    facts = verify(paired.certificate, AUTHORITY.certificate_pem)
    assert facts.identity == Identity("floor1", Role.NODE, "mse2")
    assert facts.addresses == ("10.10.10.12", "10.10.10.50")
    assert belongs(paired.certificate, paired.key)
    client = describe(paired.replication_certificate)
    assert client.common_name == "openmse_replication"
    assert belongs(paired.replication_certificate, paired.replication_key)
    offer = paired.offer
    assert offer.authority_key == AUTHORITY.key_pem
    assert offer.heartbeat_key == OFFER.heartbeat_key
    assert (offer.group_info, offer.settings, offer.register_seed) == (
        b"info",
        b"settings",
        b"seed",
    )
    await until(lambda: not two.store.path.exists())  # one pairing, one password


async def test_a_witness_learns_no_more_than_it_needs(machine: Make) -> None:
    witness = await machine("w", Role.WITNESS, group_limit=1000)
    await witness.pair(ENROL)
    (paired,) = witness.stored
    assert paired.offer.authority_key == b""
    assert paired.offer.register_seed == b""
    assert paired.offer.heartbeat_key == witness_root(OFFER.heartbeat_key, "w")
    assert paired.replication_certificate == b""
    facts = verify(paired.certificate, AUTHORITY.certificate_pem)
    assert facts.identity == Identity("floor1", Role.WITNESS, "w")
    assert facts.addresses == ()
    other = Authority.create("floor2")
    second = msgspec.structs.replace(
        ENROL,
        group="floor2",
        authority_certificate=other.certificate_pem,
        authority_key=other.key_pem,
    )
    await witness.pair(second)  # its password is still there
    assert [one.offer.group for one in witness.stored] == ["floor1", "floor2"]


@pytest.mark.parametrize(
    ("changes", "offer", "sentence"),
    [
        ({}, {"software": "0.9"}, "different versions.*runs 1.0"),
        ({}, {"me": "mse2"}, "the same name"),
        ({}, {"kind": Role.WITNESS}, "another role"),
        ({"role": Role.WITNESS}, {}, "another role"),
        ({"groups": ("floor9",)}, {}, "belongs to another group"),
    ],
)
async def test_refusals(
    machine: Make, changes: dict[str, Any], offer: dict[str, Any], sentence: str
) -> None:
    two = await machine(**changes)
    with pytest.raises(PairingError, match=sentence) as caught:
        await two.pair(msgspec.structs.replace(OFFER, **offer))
    assert "Nothing was changed" in caught.value.hint
    assert not two.stored
    assert len(two.refusals) == 1
    assert two.store.check(two.now_s).failures == 0


async def test_a_witness_may_run_another_software_version(machine: Make) -> None:
    witness = await machine("w", Role.WITNESS)
    await witness.pair(msgspec.structs.replace(ENROL, software="0.9"))
    assert witness.stored


@pytest.mark.parametrize("numbers", [(7, 9), (3, 2)])
async def test_other_wire_versions_are_refused(machine: Make, numbers: tuple[int, int]) -> None:
    two = await machine()
    hello = Hello("mse1", Role.NODE, "1.0", Role.NODE, "floor1", b"", *numbers)
    assert await say(two.server.address, hello) == Refuse(Code.VERSION, "1.0")
    strange = msgspec.structs.replace(hello, lowest_wire=0, highest_wire=1, version=9)
    assert await say(two.server.address, strange) == Refuse(Code.VERSION, "1.0")


async def test_the_previous_wire_version_may_enrol_a_witness(machine: Make) -> None:
    witness = await machine("w", Role.WITNESS)
    hello = Hello("mse1", Role.NODE, "0.9", Role.WITNESS, "floor1", b"", 0, 0)
    answer = await say(witness.server.address, hello)
    assert isinstance(answer, Hello)
    assert (answer.lowest_wire, answer.highest_wire) == (0, 1)


async def say(address: Address, message: Any) -> Any:
    """Send one clear message, and give the answer to it."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(frame(msgspec.msgpack.encode(message)))
    length = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
    answer = pairing_stream._clear.decode(await reader.readexactly(length))
    writer.close()
    return answer


async def test_wrong_passwords_are_counted_and_then_all_are_refused(machine: Make) -> None:
    two = await machine()
    for _ in range(FREE_GUESSES):
        with pytest.raises(PairingError, match="not the one that was set"):
            await two.pair(password="wrong horse")
    with pytest.raises(PairingError, match="Too many wrong passwords"):
        await two.pair()  # not even the right one
    assert not two.stored
    two.now_s += 61
    await two.pair()
    assert two.stored


async def test_a_guess_that_is_broken_off_counts_too(machine: Make, until: Any) -> None:
    two = await machine()
    reader, writer = await asyncio.open_connection(*two.server.address)
    hello = Hello("mse1", Role.NODE, "1.0", Role.NODE, "floor1")
    pake_share = pairing_stream._begin(b"a guess", True)[0]
    for message in (hello, Share(pake_share)):
        writer.write(frame(msgspec.msgpack.encode(message)))
    await reader.readexactly(HEADER_BYTES)
    await until(lambda: two.store.check(two.now_s).failures == 1)
    writer.close()
    await until(lambda: two.refusals)
    assert two.store.check(two.now_s).failures == 1


@pytest.mark.parametrize("share", [b"", b"B" + bytes(32), b"A" + b"\xff" * 32, b"S" + bytes(32)])
async def test_shares_that_are_none_are_refused(machine: Make, share: bytes) -> None:
    two = await machine()
    reader, writer = await asyncio.open_connection(*two.server.address)
    hello = Hello("mse1", Role.NODE, "1.0", Role.NODE, "floor1")
    for message in (hello, Share(share)):
        writer.write(frame(msgspec.msgpack.encode(message)))
    answer = await reader.read()
    assert msgspec.msgpack.encode(Refuse(Code.BROKEN)) in answer
    writer.close()


async def test_nobody_waits(machine: Make) -> None:
    two = await machine()
    two.store.clear()
    with pytest.raises(PairingError, match="does not wait"):
        await two.pair()
    await two.server.close()
    with pytest.raises(PairingError, match="Nobody answers at"):
        await two.pair()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", frame(b"\x91" * 500), frame(b"")])
async def test_garbage_is_refused_and_harms_nobody(machine: Make, garbage: bytes) -> None:
    two = await machine()
    reader, writer = await asyncio.open_connection(*two.server.address)
    writer.write(garbage)
    with suppress(ConnectionError):
        assert msgspec.msgpack.encode(Refuse(Code.BROKEN)) in await reader.read()
    writer.close()
    await two.pair()
    assert two.stored


async def test_too_many_at_once_are_told_so(machine: Make) -> None:
    two = await machine()
    idle = [await asyncio.open_connection(*two.server.address) for _ in range(4)]
    with pytest.raises(PairingError, match="busy with other pairings"):
        await two.pair()
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()


async def test_the_rules_of_the_programs_around_it_are_told(machine: Make) -> None:
    two = await machine()
    two.review_error = CommandRefused("The disk is too small.", "Add one.", code="MSE-PLT-1")
    with pytest.raises(PairingError, match=r"The disk is too small\. Add one") as caught:
        await two.pair()
    assert caught.value.code == "MSE-PLT-1"
    two.review_error = None
    two.commit_error = StateError("The disk is full.")
    with pytest.raises(PairingError, match="The disk is full"):
        await two.pair()
    assert not two.stored
    two.commit_error = None
    await two.pair()  # the password is still there
    assert two.stored


async def test_facts_that_cannot_be_certified_are_refused(machine: Make) -> None:
    two = await machine()
    two.facts = lambda: Facts("mse2", "b2", "1.0", ("not an address",))  # type: ignore[method-assign]
    with pytest.raises(PairingError, match="cannot be certified"):
        await two.pair()
    two.facts = lambda: Facts("mse3", "b2", "1.0", ())  # type: ignore[method-assign]
    with pytest.raises(PairingError, match="did not follow"):
        await two.pair()
    assert not two.stored


class Cutter:
    """A relay that passes whole frames and cuts both connections before the n-th one."""

    def __init__(self, target: Address, cut_before: int) -> None:
        self.target = target
        self.left = cut_before
        self.passed: list[str] = []

    async def __aenter__(self) -> Address:
        self.server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        address: Address = self.server.sockets[0].getsockname()
        return address

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        ways = [
            asyncio.ensure_future(self.pass_on("initiator", reader, far_writer)),
            asyncio.ensure_future(self.pass_on("responder", far_reader, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for one in (writer, far_writer):
            one.transport.abort()

    async def pass_on(
        self, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(HEADER_BYTES)
                data = await reader.readexactly(int.from_bytes(header, "big"))
                if self.left == 0:
                    return
                self.left -= 1
                self.passed.append(who)
                writer.write(header + data)


FRAMES = 13
"""hello ×2, share ×2, confirm ×2, offer, requests, certificates, prepared, commit, committed,
done."""
COMMIT = 11


@pytest.mark.parametrize("cut_before", range(FRAMES))
async def test_a_cut_at_each_step_changes_nothing_or_can_be_repeated(
    machine: Make, until: Any, cut_before: int
) -> None:
    two = await machine()
    async with Cutter(two.server.address, cut_before) as address:
        if cut_before == FRAMES - 1:  # both know by then, only the responder's password stays
            await pair_with(*address, PASSWORD, OFFER)
        else:
            with pytest.raises(PairingError) as caught:
                await pair_with(*address, PASSWORD, OFFER)
            unclear = cut_before >= COMMIT - 1
            assert caught.value.code == ("MSE-PAIR-009" if unclear else "MSE-PAIR-011")
            assert ("Nothing was changed" in caught.value.hint) == (not unclear)
    assert len(two.stored) == (1 if cut_before >= COMMIT else 0)
    assert two.store.path.exists()
    if two.stored:
        two.me = Responder("mse2", Role.NODE, "1.0", ("floor1",))
    await until(lambda: not two.server._tasks)
    result = await two.pair()
    assert two.stored[-1].fingerprint == result.fingerprint
    await until(lambda: not two.store.path.exists())


async def test_all_frames_were_counted(machine: Make) -> None:
    two = await machine()
    cutter = Cutter(two.server.address, 99)
    async with cutter as address:
        await pair_with(*address, PASSWORD, OFFER)
        async with asyncio.timeout(5):
            while two.store.path.exists():
                await asyncio.sleep(0.01)
    assert len(cutter.passed) == FRAMES


class Tamperer(Cutter):
    """Flips one bit in the n-th frame."""

    async def pass_on(
        self, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(HEADER_BYTES)
                data = bytearray(await reader.readexactly(int.from_bytes(header, "big")))
                if self.left == 0:
                    data[-1] ^= 1
                self.left -= 1
                writer.write(header + data)


@pytest.mark.parametrize("bent", range(COMMIT))
async def test_nothing_can_be_changed_on_the_way(machine: Make, bent: int) -> None:
    two = await machine()
    async with Tamperer(two.server.address, bent) as address:
        with pytest.raises(PairingError):
            await pair_with(*address, PASSWORD, OFFER)
    assert not two.stored


async def test_secrets_are_in_no_text(machine: Make) -> None:
    two = await machine()
    await two.pair()
    for text in (repr(two.stored[0]), repr(two.stored[0].offer), repr(OFFER)):
        assert "PRIVATE" not in text
        assert "heartbeat" not in text
