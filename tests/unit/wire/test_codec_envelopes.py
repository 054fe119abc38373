"""Envelopes: N and N-1, bounds, and what is not a message."""

import msgspec
import pytest

from openmse.errors import PeerError
from openmse.ha.messages import BeatAck, Message, Prepare, Stamp
from openmse.ha.values import Ballot, Instant
from openmse.wire.codec import MAX_MESSAGE_BYTES, VOTERS, Codec, Spoken
from openmse.wire.frames import FrameReader, frame
from openmse.wire.versions import OLDEST_VERSION, WIRE_VERSION, common_version

STAMP = Stamp("mse1", "a1b2", 7, Ballot(1, 2, "mse1"))
PREPARE = Prepare(STAMP, Ballot(1, 3, "mse1"))


class Note(msgspec.Struct, frozen=True):
    text: str


TODAY = Codec({VOTERS: Message, 9: Note})
YESTERDAY = Codec({VOTERS: Message, 9: Note}, highest=WIRE_VERSION - 1)


def test_a_message_comes_back_as_it_was() -> None:
    envelope = TODAY.decode(TODAY.encode(PREPARE, group="floor1", sender="mse1"))
    assert envelope.message == PREPARE
    assert (envelope.group, envelope.sender, envelope.kind) == ("floor1", "mse1", VOTERS)
    assert (envelope.version, envelope.speaks) == (WIRE_VERSION, WIRE_VERSION)


def test_kinds_do_not_mix() -> None:
    data = TODAY.encode(Note("x"), group="g", sender="s", kind=9)
    assert TODAY.decode(data).message == Note("x")
    with pytest.raises(PeerError):
        Codec({VOTERS: Message}).decode(data)


def test_yesterday_and_today_understand_each_other() -> None:
    ack = BeatAck(STAMP, Instant(5), True, 1, 2, Ballot())
    old = TODAY.decode(YESTERDAY.encode(ack, group="g", sender="s"))
    assert old.message == ack
    assert (old.version, old.speaks) == (0, 0)
    spoken = Spoken()
    assert spoken.version_for("g", "s") == OLDEST_VERSION  # nothing known: what all can read
    spoken.heard(old)
    answer = TODAY.encode(ack, group="g", sender="t", version=spoken.version_for("g", "s"))
    read = YESTERDAY.decode(answer)
    assert read.message == ack
    assert read.speaks == WIRE_VERSION
    spoken.heard(TODAY.decode(TODAY.encode(ack, group="g", sender="s")))
    assert spoken.version_for("g", "s") == WIRE_VERSION


def test_a_layout_that_is_not_known_is_refused_with_the_numbers() -> None:
    data = bytearray(TODAY.encode(PREPARE, group="g", sender="s"))
    with pytest.raises(PeerError, match="wire version 1 arrived; this software reads 0 to 0"):
        YESTERDAY.decode(bytes(data))
    data[1] = data[2] = 9
    with pytest.raises(PeerError, match="wire version 9"):
        TODAY.decode(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"M",
        b"M\x01\x01",
        b"X\x01\x01\x01",
        b"M\x01\x00\x01\x01a\x01b\x80",  # reads less than it writes
        b"M\x01\x01\x01\x05a",
        b"M\x01\x01\x01\x01a\xffb",
        b"M\x01\x01\x01\x01/\x01b\x80",
        b"M\x00\x01\x91\x01",
        b"M\x00\x01" + b"\x91" * 5000,
        b"M\x01\x01\x01\x01a\x01b" + b"\x91" * 5000,
    ],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        TODAY.decode(data)


def test_names_are_checked_though_the_body_is_fine() -> None:
    body = msgspec.msgpack.encode(Note("x"))
    with pytest.raises(PeerError, match="not a name"):
        TODAY.decode(b"M\x01\x01\x09\x03a/b\x01c" + body)


def test_what_is_too_long_is_neither_sent_nor_read() -> None:
    with pytest.raises(PeerError, match="too long"):
        TODAY.encode(Note("x" * MAX_MESSAGE_BYTES), group="g", sender="s", kind=9)
    with pytest.raises(PeerError):
        TODAY.decode(bytes(MAX_MESSAGE_BYTES + 1))


def test_versions_in_common() -> None:
    assert common_version(0, 0) == 0
    assert common_version(0, 5) == WIRE_VERSION
    for lowest, highest in ((2, 3), (1, 0)):
        with pytest.raises(PeerError, match="none in common"):
            common_version(lowest, highest)


def test_frames_in_pieces() -> None:
    reader = FrameReader(10)
    stream = frame(b"one") + frame(b"") + frame(b"0123456789")
    got = [piece for i in range(len(stream)) for piece in reader.feed(stream[i : i + 1])]
    assert got == [b"one", b"", b"0123456789"]
    assert reader.feed(stream) == got
    with pytest.raises(PeerError, match="11 bytes"):
        reader.feed(frame(b"x" * 11)[:4])
