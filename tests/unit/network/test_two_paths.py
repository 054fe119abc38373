"""Which of two paths carries, judged by the copies of datagrams."""

from openmse.node.drivers.peer.paths import RETURN_NS, Path, PathWatch

BEAT_NS = 175_000_000
NETWORK, DIRECT = Path.NETWORK, Path.DIRECT


class Beats:
    """A peer's beats, one each ``BEAT_NS``, on the paths that carry."""

    def __init__(self) -> None:
        self.changes: list[Path | None] = []
        self.watch = PathWatch(lambda: self.changes.append(self.watch.preferred()))
        self.at = 10**12
        self.number = 0

    def come(self, count: int, *paths: Path) -> None:
        for _ in range(count):
            self.at += BEAT_NS
            self.number += 1
            data = b"beat %d" % self.number
            for path in paths:
                if not self.watch.is_copy(data, path, self.at):
                    self.watch.delivered(data, path, self.at)


def test_the_direct_path_is_used_once_its_first_copy_has_come() -> None:
    beats = Beats()
    assert beats.watch.preferred() is None
    beats.come(1, NETWORK, DIRECT)
    assert beats.watch.preferred() is DIRECT


def test_two_missing_copies_are_a_lost_path_and_one_is_none() -> None:
    beats = Beats()
    beats.come(3, NETWORK, DIRECT)
    beats.come(1, NETWORK)
    beats.come(1, NETWORK, DIRECT)
    assert beats.watch.preferred() is DIRECT
    beats.come(3, NETWORK)
    assert beats.watch.preferred() is NETWORK
    assert not beats.watch.is_silent(NETWORK, beats.at)


def test_a_burst_that_comes_on_one_path_first_is_no_lost_path() -> None:
    beats = Beats()
    beats.come(1, DIRECT, NETWORK)
    burst = [b"a", b"b", b"c", b"d"]
    for data in burst:  # in one turn of the loop
        beats.watch.delivered(data, NETWORK, beats.at)
    assert all(beats.watch.is_copy(data, DIRECT, beats.at) for data in burst)
    assert beats.watch.preferred() is DIRECT


def test_a_copy_counts_once_and_only_on_the_other_path() -> None:
    beats = Beats()
    beats.watch.delivered(b"x", NETWORK, 1)
    assert not beats.watch.is_copy(b"x", NETWORK, 2)  # a replay: left to the channel
    assert beats.watch.is_copy(b"x", DIRECT, 3)
    assert not beats.watch.is_copy(b"x", DIRECT, 4)
    assert not beats.watch.is_copy(b"y", DIRECT, 5)


def test_silence_on_both_says_nothing() -> None:
    beats = Beats()
    beats.come(3, NETWORK, DIRECT)
    beats.at += 10**11
    beats.come(1, NETWORK, DIRECT)
    assert beats.watch.preferred() is DIRECT
    assert len(beats.changes) == 2  # each path was found once


def test_a_lost_path_returns_after_a_while_and_a_flapping_one_later() -> None:
    beats = Beats()
    steady = RETURN_NS // BEAT_NS + 2
    beats.come(1, NETWORK, DIRECT)
    beats.come(3, NETWORK)
    beats.come(steady - 5, NETWORK, DIRECT)
    assert beats.watch.preferred() is NETWORK
    beats.come(5, NETWORK, DIRECT)
    assert beats.watch.preferred() is DIRECT
    beats.come(3, NETWORK)
    beats.come(steady, NETWORK, DIRECT)
    assert beats.watch.preferred() is NETWORK
    beats.come(steady, NETWORK, DIRECT)
    assert beats.watch.preferred() is DIRECT


def test_the_direct_path_alone_is_used_although_it_has_just_returned() -> None:
    beats = Beats()
    beats.come(1, NETWORK, DIRECT)
    beats.come(3, NETWORK)
    assert beats.watch.preferred() is NETWORK
    beats.come(3, DIRECT)
    assert beats.watch.preferred() is DIRECT
    assert beats.watch.is_silent(NETWORK, beats.at)
    beats.come(1, NETWORK, DIRECT)
    assert not beats.watch.is_silent(NETWORK, beats.at)


def test_a_dead_cable_is_found_dead_from_the_start() -> None:
    beats = Beats()
    beats.come(3, NETWORK)
    assert beats.watch.preferred() is NETWORK
    assert beats.watch.sides[DIRECT].is_up is False
