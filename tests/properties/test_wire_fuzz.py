"""Whatever arrives, the codec and the channels refuse it politely or understand it."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from openmse.errors import PeerError
from openmse.ha.messages import Beat, Message, Promise, Stamp, Standing
from openmse.ha.values import Ballot, Config, Instant, Lineage, Mode, Settings, Voter
from openmse.wire.codec import VOTERS, Codec
from openmse.wire.datagrams import Channel, Kind, pair_root, peek
from openmse.wire.frames import FrameReader, frame

CODEC = Codec({VOTERS: Message})
STAMP = Stamp("mse1", "a1", 3, Ballot(1, 2, "mse1"))
CONFIG = Config(
    term=1,
    epoch=7,
    mode=Mode.SYNC,
    owner="mse1",
    voters=(Voter("mse1", "a1"), Voter("mse2", "b2"), Voter("w", "c3", True)),
    lineage=Lineage(1, 3, "mse2"),
    settings=Settings(),
)
SAMPLES = [
    Beat(STAMP, Instant(1), 1, 7, Ballot(), "mse1", True, 5, Standing(Lineage(1, 3, "m"), 99)),
    Promise(STAMP, Ballot(2, 2, "w"), Ballot(1, 1, "w"), CONFIG, None, Ballot()),
]
ENCODED = [
    CODEC.encode(message, group="floor1", sender="mse1", version=version)
    for message in SAMPLES
    for version in (0, 1)
]
ROOT = pair_root(bytes(32))


def _decode(data: bytes) -> None:
    try:
        CODEC.decode(data)
    except PeerError:
        return


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    _decode(data)
    for version in (0, 1):
        _decode(bytes((0x4D, version, 1)) + data)


@given(st.sampled_from(ENCODED), st.data())
def test_flipped_and_cut(encoded: bytes, data: st.DataObject) -> None:
    flips = data.draw(
        st.lists(st.tuples(st.integers(0, len(encoded) - 1), st.integers(1, 255)), max_size=6)
    )
    bent = bytearray(encoded)
    for position, mask in flips:
        bent[position] ^= mask
    _decode(bytes(bent[: data.draw(st.integers(0, len(encoded)))]))
    _decode(bytes(bent))


@given(st.sampled_from(SAMPLES), st.sampled_from((0, 1)))
def test_messages_round_trip(message: Message, version: int) -> None:
    data = CODEC.encode(message, group="floor1", sender="mse1", version=version)
    assert CODEC.decode(data).message == message


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=20))
def test_frames_are_bounded_whatever_comes(data: bytes, cuts: list[int]) -> None:
    reader = FrameReader(64)
    position = 0
    try:
        for cut in [*cuts, len(data)]:
            for received in reader.feed(data[position : position + cut]):
                assert len(received) <= 64
            position += cut
    except PeerError:
        return


@given(st.lists(st.binary(max_size=64), max_size=8), st.integers(1, 90))
def test_frames_arrive_whole_however_cut(messages: list[bytes], piece: int) -> None:
    stream = b"".join(frame(message) for message in messages)
    reader = FrameReader(64)
    got: list[bytes] = []
    for start in range(0, len(stream), piece):
        got += reader.feed(stream[start : start + piece])
    assert got == messages


def _channel(me: str, peer: str, seed: int) -> Channel:
    numbers = itertools.count(seed << 40 | 1)
    return Channel("floor1", me, peer, root=ROOT, token=lambda: next(numbers).to_bytes(8, "big"))


@given(st.data())
def test_a_bent_datagram_is_never_delivered(data: st.DataObject) -> None:
    one, two = _channel("mse1", "mse2", 1), _channel("mse2", "mse1", 2)
    sealed = one.open(two.open(one.seal(b"payload", 0), 0).data, 0).data
    bent = bytearray(sealed)
    bent[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(bent[: data.draw(st.integers(0, len(sealed)))])
    for candidate in (bytes(bent), cut, data.draw(st.binary(max_size=200))):
        peek(candidate)
        assert two.open(candidate, 0).kind is Kind.REJECTED
    assert two.open(sealed, 0).data == b"payload"  # and none of it disturbed anything


class _Network:
    """Two parties that may restart, and an attacker who keeps every datagram for later."""

    def __init__(self) -> None:
        self.seeds = itertools.count(1)
        self.lives = {"mse1": 0, "mse2": 0}
        self.ends = {name: self.fresh(name) for name in self.lives}
        self.recorded: list[tuple[str, bytes, int]] = []
        """Receiver, datagram, and in which life of the receiver it was made."""
        self.delivered: set[bytes] = set()
        self.now = 0

    def fresh(self, name: str) -> Channel:
        return _channel(name, "mse2" if name == "mse1" else "mse1", next(self.seeds))

    def restart(self, name: str) -> None:
        self.ends[name] = self.fresh(name)
        self.lives[name] += 1

    def made(self, to: str, data: bytes) -> None:
        self.recorded.append((to, data, self.lives[to]))

    def give(self, index: int) -> bytes | None:
        to, data, life = self.recorded[index]
        outcome = self.ends[to].open(data, self.now)
        if outcome.kind is Kind.SEND:
            self.made("mse2" if to == "mse1" else "mse1", outcome.data)
        if outcome.kind is not Kind.DELIVERED:
            return None
        assert data not in self.delivered, "a datagram was delivered twice"
        assert life == self.lives[to], "a datagram outlived the receiver it was made for"
        self.delivered.add(data)
        return outcome.data

    def talk(self, sender: str, to: str, payload: bytes) -> bool:
        """Send on a network that works, and let all answers pass at once."""
        first = len(self.recorded)
        self.made(to, self.ends[sender].seal(payload, self.now))
        got = [self.give(index) for index in range(first, first + 1)]
        while len(self.recorded) > first + len(got):
            got.append(self.give(first + len(got)))
        return payload in got


_STEP = st.one_of(
    st.tuples(st.just("talk"), st.booleans(), st.just(0)),
    st.tuples(st.just("lose"), st.booleans(), st.just(0)),
    st.tuples(st.just("restart"), st.booleans(), st.just(0)),
    st.tuples(st.just("replay"), st.booleans(), st.integers(0, 12)),
)


@settings(max_examples=400)
@given(st.lists(_STEP, min_size=10, max_size=40))
def test_no_order_of_replays_and_restarts_delivers_twice_or_to_a_later_life(
    steps: list[tuple[str, bool, int]],
) -> None:
    net = _Network()
    for number, (action, is_first, back) in enumerate(steps):
        net.now += 100_000_000
        name, other = ("mse1", "mse2") if is_first else ("mse2", "mse1")
        if action == "talk":
            net.talk(name, other, b"%d" % number)
        elif action == "lose":
            net.made(other, net.ends[name].seal(b"%d" % number, net.now))
        elif action == "restart":
            net.restart(name)
        elif net.recorded:
            net.give(-1 - back % len(net.recorded))
    net.now += 1_000_000_000
    assert net.talk("mse1", "mse2", b"at the end")
    assert net.talk("mse2", "mse1", b"both still talk")
