"""Frames on the wire, against bytes written down by hand from the RFCs."""

import ipaddress

import pytest

from openmse.node.drivers.virtual_ip import frames

MAC = bytes.fromhex("02420a0a0a0b")
OTHER = bytes.fromhex("02420a0a0a0c")
V4 = ipaddress.IPv4Address("10.10.10.16")
V6 = ipaddress.IPv6Address("fd00:10::1:216")


def test_an_arp_probe_claims_nothing() -> None:
    frame = frames.probe(V4, MAC)
    assert frame[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
    body = "000108000604000102420a0a0a0b000000000000000000000a0a0a10"
    assert frame[14:42].hex() == body
    assert len(frame) == 60


def test_arp_announcements_come_in_both_forms() -> None:
    request, reply = frames.announcements(V4, MAC)
    assert request[14:42].hex() == "000108000604000102420a0a0a0b0a0a0a100000000000000a0a0a10"
    # The reply's target hardware address is our own: what Linux wants of a gratuitous reply.
    assert reply[14:42].hex() == "000108000604000202420a0a0a0b0a0a0a1002420a0a0a0b0a0a0a10"


def test_neighbour_probe_goes_to_the_solicited_node_group() -> None:
    frame = frames.probe(V6, MAC)
    assert frame[:14].hex() == "3333ff010216" + MAC.hex() + "86dd"
    assert frame[14:22].hex() == "6000000000183aff"
    assert frame[22:38] == b"\0" * 16
    assert frame[38:54] == ipaddress.IPv6Address("ff02::1:ff01:216").packed
    assert frame[54:56].hex() == "8700"
    assert frame[62:78] == V6.packed
    assert _sums_to_zero(frame)


def test_neighbour_advertisement_overrides() -> None:
    (frame,) = frames.announcements(V6, MAC)
    assert frame[:6].hex() == "333300000001"
    assert frame[22:38] == V6.packed
    assert frame[54:56].hex() == "8800"
    assert frame[58:62].hex() == "20000000"
    assert frame[62:].hex() == V6.packed.hex() + "0201" + MAC.hex()
    assert _sums_to_zero(frame)


def _sums_to_zero(frame: bytes) -> bool:
    """Whether the ICMPv6 checksum is right, as a receiver computes it."""
    message = frame[54:]
    data = frame[22:54] + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@pytest.mark.parametrize("address", [V4, V6])
def test_probes_and_announcements_are_claims(address: frames.Ip) -> None:
    assert frames.claim(frames.probe(address, OTHER)) == frames.Claim(address, OTHER, True)
    for frame in frames.announcements(address, OTHER):
        assert frames.claim(frame) == frames.Claim(address, OTHER)


def test_an_ordinary_question_is_no_claim_of_what_it_asks_for() -> None:
    request, _ = frames.announcements(V4, OTHER)
    asking = request[:38] + ipaddress.IPv4Address("10.10.10.99").packed + request[42:]
    assert frames.claim(asking) == frames.Claim(V4, OTHER), "but of the sender's own address"
    solicit = bytearray(frames.probe(V6, OTHER))
    solicit[22:38] = ipaddress.IPv6Address("fd00:10::99").packed
    assert frames.claim(bytes(solicit)) is None


def test_other_frames_are_no_claims() -> None:
    (advert,) = frames.announcements(V6, OTHER)
    assert frames.claim(b"") is None
    assert frames.claim(advert[:70]) is None
    assert frames.claim(advert[:21] + b"\x40" + advert[22:]) is None, "hop limit not 255: routed"
    assert frames.claim(advert[:20] + b"\x06" + advert[21:]) is None
    assert frames.claim(b"\0" * 12 + b"\x08\x00" + b"\0" * 60) is None
    arp = frames.probe(V4, OTHER)
    assert frames.claim(arp[:14] + b"\0\x06" + arp[16:]) is None


def test_a_mac_is_written_as_people_do() -> None:
    assert frames.mac_text(MAC) == "02:42:0a:0a:0a:0b"
