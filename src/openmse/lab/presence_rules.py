"""When two nodes count as present at once. Pure; the definition that docs/lab.md quotes.

A *sign of presence* of node N is one of
- ``arp``: an ARP answer of N for the virtual IP, to a probe put on N's own switch port;
- ``vip``: N's client port at the virtual IP accepted a TCP connection (SYN answered with SYN-ACK);
- ``own``: N's client port at its own address accepted one;
- ``commit``: N acknowledged a client's commit.
Each sign was given at some instant between ``begin`` (the probe left) and ``end`` (the answer was
read). Probes go to each node's own port of the switch, so they reach a node that is cut off from
all others too.

**Double presence** is: signs a1, b, a2 with a1 and a2 of one node and b of another, with
a1.end < b.begin and b.end < a2.begin (so the order is certain, whatever the delays of the
observer), and a2.begin - a1.end at most ``JOIN_NS``. In words: one node is present both before and
after another one's sign, within a time in which no handover there and back can have happened. With
a probe every 20 ms, two nodes present together for 60 ms are always found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import Struct

MS = 1_000_000
JOIN_NS = 150 * MS
"""Two signs of one node this close together belong to one stay."""


class Sign(Struct, frozen=True, tag="sign"):
    """One sign of presence; ``begin`` and ``end`` enclose it (CLOCK_BOOTTIME ns)."""

    node: str
    kind: str
    begin: int
    end: int
    mac: str = ""


@dataclass(frozen=True, slots=True)
class DoublePresence:
    """Two nodes were present together: the first certain proof of one such stretch, its length."""

    first: Sign
    intruder: Sign
    last: Sign

    @property
    def sentence(self) -> str:
        """For people."""
        apart = (self.last.begin - self.first.end) / MS
        return (
            f"{self.intruder.node} was present ({self.intruder.kind}) at {self.intruder.begin} ns "
            f"between two signs of {self.first.node} ({self.first.kind}, {self.last.kind}), "
            f"{apart:.0f} ms apart."
        )


def double_presences(signs: Iterable[Sign]) -> list[DoublePresence]:
    """Every sign of one node that lies certainly within a stay of another one."""
    ordered = sorted(signs, key=lambda sign: sign.begin)
    nodes = sorted({sign.node for sign in ordered})
    found: list[DoublePresence] = []
    for node in nodes:
        own = [sign for sign in ordered if sign.node == node]
        others = [sign for sign in ordered if sign.node != node]
        found += _within(own, others)
    return sorted(found, key=lambda proof: proof.intruder.begin)


def _within(own: Sequence[Sign], others: Sequence[Sign]) -> list[DoublePresence]:
    """Signs of ``others`` enclosed by two of ``own``. Both are sorted by their beginning."""
    found = []
    by_end = sorted(own, key=lambda sign: sign.end)
    before, after = 0, 0
    for sign in others:
        while before < len(by_end) and by_end[before].end < sign.begin:
            before += 1
        if before == 0:
            continue
        first = by_end[before - 1]
        after = _first_after(own, sign.end, after)
        if after == len(own):
            continue
        last = own[after]
        if last.begin - first.end <= JOIN_NS:
            found.append(DoublePresence(first, sign, last))
    return found


def _first_after(own: Sequence[Sign], instant: int, guess: int) -> int:
    """The index of the first sign of ``own`` that begins after ``instant``."""
    while guess and own[guess - 1].begin > instant:
        guess -= 1
    while guess < len(own) and own[guess].begin <= instant:
        guess += 1
    return guess
