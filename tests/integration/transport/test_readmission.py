"""A new machine takes a lost one's place over real connections: what passes, what is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openmse.errors import CommandRefused, MseError, PairingError, StateError
from openmse.pki.authority import Authority, belongs, verify
from openmse.pki.names import Identity, Role
from openmse.pki.pairing import PairingOffer, PairingResult, pair_with, readmit_from
from openmse.pki.pairing_exchange import Paired, Responder
from openmse.pki.pairing_messages import PAIRING_VERSION, Facts, Hello, Offer, Refuse
from openmse.pki.pairing_server import PairingServer
from openmse.pki.password import FREE_GUESSES, PairingStore
from openmse.wire.frames import HEADER_BYTES, frame

PASSWORD = "correct horse"
AUTHORITY = Authority.create("floor1")
OFFER = PairingOffer(
    kind=Role.NODE,
    me="mse2",
    software="1.0",
    group="floor1",
    authority_certificate=AUTHORITY.certificate_pem,
    authority_key=AUTHORITY.key_pem,
    heartbeat_key=bytes(range(32)),
    virtual_ips=("10.10.10.50",),
    group_info=b"info",
    settings=b"settings",
)


class Owner:
    """Gives."""

    def __init__(self, directory: Path) -> None:
        self.admitted: list[PairingResult] = []
        self.refusals: list[MseError] = []
        self.why_not = ""
        self.fault: MseError | None = None
        self.store = PairingStore(directory / "readmission-password")
        self.store.set_password(PASSWORD, now_s=1000.0, valid_for_s=600.0)
        self.now_s = 1000.0
        self.server = PairingServer(
            self.store,
            self,
            bind=("127.0.0.1", 0),
            clock=lambda: self.now_s,
            on_refused=lambda error, _: self.refusals.append(error),
        )

    def responder(self) -> Responder:
        return Responder("mse2", Role.NODE, "1.0", ("floor1",))

    def offer(self) -> tuple[str, PairingOffer]:
        if self.why_not:
            raise CommandRefused(self.why_not)
        return "mse1-2", OFFER

    async def admit(self, result: PairingResult) -> None:
        if self.fault is not None:
            raise self.fault
        self.admitted.append(result)


class Newcomer:
    """Takes."""

    def __init__(self, software: str = "1.0", groups: tuple[str, ...] = ()) -> None:
        self.me = Responder("a-new-machine", Role.NODE, software, groups)
        self.stored: list[Paired] = []
        self.review_error: MseError | None = None
        self.commit_error: MseError | None = None
        self.name = "mse1-2"

    def responder(self) -> Responder:
        return self.me

    def review(self, initiator: str, offer: Offer) -> None:
        if self.review_error is not None:
            raise self.review_error
        self.me = msgspec.structs.replace(self.me, id=self.name)

    def facts(self) -> Facts:
        return Facts(self.name, "c3", "1.0", ("10.10.10.11",), (), b"", b"new")

    async def commit(self, paired: Paired) -> None:
        if self.commit_error is not None:
            raise self.commit_error
        self.stored.append(paired)


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    found = Owner(tmp_path)
    await found.server.open()
    yield found
    await found.server.close()


async def ask(owner: Owner, taker: Newcomer, password: str = PASSWORD) -> bool:
    return await readmit_from(*owner.server.address, password, taker)


async def test_a_new_machine_gets_the_group_and_a_name_of_its_own(owner: Owner, until: Any) -> None:
    new = Newcomer()
    assert await ask(owner, new)
    (paired,), (result,) = new.stored, owner.admitted
    assert paired.initiator == "mse2"
    assert paired.offer.authority_key == AUTHORITY.key_pem
    assert paired.offer.heartbeat_key == OFFER.heartbeat_key
    facts = verify(paired.certificate, AUTHORITY.certificate_pem)
    assert facts.identity == Identity("floor1", Role.NODE, "mse1-2")
    assert facts.addresses == ("10.10.10.11", "10.10.10.50")
    assert belongs(paired.certificate, paired.key)
    assert belongs(paired.replication_certificate, paired.replication_key)
    assert (result.facts.id, result.facts.incarnation, result.facts.info) == (
        "mse1-2",
        "c3",
        b"new",
    )
    assert result.fingerprint == paired.fingerprint
    await until(lambda: not owner.store.path.exists())  # one re-admission, one password


async def test_a_wrong_password_gets_nothing_and_is_counted(owner: Owner) -> None:
    new = Newcomer()
    for _ in range(FREE_GUESSES):
        with pytest.raises(PairingError) as caught:
            await ask(owner, new, "wrong horse")
        assert caught.value.code == "MSE-PAIR-004"
    with pytest.raises(PairingError) as caught:
        await ask(owner, new)
    assert caught.value.code == "MSE-PAIR-005"
    assert (new.stored, owner.admitted) == ([], [])


async def test_after_its_end_the_password_is_worth_nothing(owner: Owner) -> None:
    owner.now_s += 601.0
    with pytest.raises(PairingError) as caught:
        await ask(owner, Newcomer())
    assert caught.value.code == "MSE-PAIR-003"


async def test_an_owner_that_lost_nobody_says_so(owner: Owner) -> None:
    owner.why_not = "mse1 is heard, so it is not lost. Nothing was changed."
    new = Newcomer()
    with pytest.raises(PairingError) as caught:
        await ask(owner, new)
    assert caught.value.sentence == owner.why_not
    assert (new.stored, owner.admitted) == ([], [])
    assert owner.store.path.exists()


async def test_an_owner_takes_nothing(owner: Owner) -> None:
    """Whoever knows the password could otherwise replace its keys by a pairing."""
    offer = msgspec.structs.replace(OFFER, me="mse1")
    with pytest.raises(PairingError) as caught:
        await pair_with(*owner.server.address, PASSWORD, offer)
    assert caught.value.code == "MSE-PAIR-003"


async def test_a_waiting_secondary_gives_nothing(tmp_path: Path) -> None:
    secondary = Newcomer()
    secondary.me = Responder("mse2", Role.NODE, "1.0")
    store = PairingStore(tmp_path / "pairing-password")
    store.set_password(PASSWORD)
    server = PairingServer(store, secondary, bind=("127.0.0.1", 0))
    await server.open()
    try:
        with pytest.raises(PairingError) as caught:
            await readmit_from(*server.address, PASSWORD, Newcomer())
        assert caught.value.code == "MSE-PAIR-003"
    finally:
        await server.close()


async def test_who_knows_no_readmission_answers_in_words(owner: Owner) -> None:
    """The version before this one compares the number with its own."""
    hello = msgspec.msgpack.encode(Hello("new", Role.NODE, "1.0", Role.NODE, version=3))
    reader, writer = await asyncio.open_connection(*owner.server.address)
    writer.write(frame(hello))
    length = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
    answer = msgspec.msgpack.decode(await reader.readexactly(length), type=Refuse)
    writer.close()
    await writer.wait_closed()
    assert answer.code == "version"
    assert PAIRING_VERSION == 1, "what paired machines of the last version still speaks"


async def test_another_version_and_another_group_are_refused(owner: Owner) -> None:
    with pytest.raises(PairingError) as caught:
        await ask(owner, Newcomer("0.9"))
    assert caught.value.code == "MSE-PAIR-013"
    new = Newcomer(groups=("floor9",))
    with pytest.raises(PairingError) as caught:
        await ask(owner, new)
    assert caught.value.code == "MSE-PAIR-008"
    assert (new.stored, owner.admitted) == ([], [])


async def test_what_does_not_fit_changes_nothing_on_either_side(owner: Owner, until: Any) -> None:
    new = Newcomer()
    new.review_error = CommandRefused("The virtual IP lies outside the network.")
    with pytest.raises(CommandRefused):
        await ask(owner, new)
    new.review_error, new.commit_error = None, StateError("The disk is full.")
    with pytest.raises(StateError):
        await ask(owner, new)
    await until(lambda: len(owner.refusals) == 2)
    assert [error.sentence for error in owner.refusals] == [
        "The virtual IP lies outside the network.",
        "The disk is full.",
    ]
    assert (new.stored, owner.admitted) == ([], [])


async def test_a_name_that_was_not_given_gets_no_certificate(owner: Owner) -> None:
    new = Newcomer()
    new.name = "mse1"
    with pytest.raises(PairingError):
        await ask(owner, new)
    assert (new.stored, owner.admitted) == ([], [])


async def test_an_owner_that_cannot_save_leaves_all_to_the_next_time(owner: Owner) -> None:
    owner.fault = StateError("The disk is full.")
    new = Newcomer()
    assert not await ask(owner, new), "stored here, but the owner does not know"
    assert (len(new.stored), owner.admitted) == (1, [])
    owner.fault = None
    again = Newcomer(groups=("floor1",))
    assert await ask(owner, again)
    assert [result.facts.id for result in owner.admitted] == ["mse1-2"]
