"""Which machines make a pair: the matrix of the guide as data, and the rule behind it. Pure.

The secondary has the same or a larger specification than the primary. One secondary supports up
to two primaries; virtual appliances only one; a cable between the two is for one primary only.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

from openmse.documents import document
from openmse.platform.errors import PairingMatrixRefused
from openmse.platform.machines import Machine, MachineKind, Size

_K = MachineKind
MAX_PRIMARIES = 2

ONE_TO_ONE: dict[MachineKind, frozenset[MachineKind]] = {
    _K.MSE_3310: frozenset({_K.MSE_3310, _K.MSE_3350, _K.MSE_3355}),
    _K.MSE_3350: frozenset({_K.MSE_3350, _K.MSE_3355}),
    _K.MSE_3355: frozenset({_K.MSE_3350, _K.MSE_3355}),
    _K.MSE_3365: frozenset({_K.MSE_3365}),
    _K.VA_LOW: frozenset({_K.VA_LOW, _K.VA_STANDARD, _K.VA_HIGH}),
    _K.VA_STANDARD: frozenset({_K.VA_STANDARD, _K.VA_HIGH}),
    _K.VA_HIGH: frozenset({_K.VA_HIGH}),
}
"""Primary -> the secondaries that back it (guide, table of 1:1 pairs)."""

TWO_TO_ONE: dict[MachineKind, frozenset[tuple[MachineKind, MachineKind]]] = {
    _K.MSE_3350: frozenset({(_K.MSE_3310, _K.MSE_3310)}),
    _K.MSE_3355: frozenset(
        {
            (_K.MSE_3310, _K.MSE_3310),
            (_K.MSE_3310, _K.MSE_3350),
            (_K.MSE_3350, _K.MSE_3350),
        }
    ),
}
"""Secondary -> the two primaries (sorted) that it backs at once (guide, N:1)."""

MEASURING_TOLERANCE = 0.02
"""Two machines of the same make may measure this much apart: kernels and file systems keep a
share of memory and disk to themselves."""


def why_no_pair(
    primaries: Sequence[Machine | None], secondary: Machine, *, is_direct: bool = False
) -> str:
    """Why these machines do not pair, as a sentence; '' where they do.

    None among ``primaries``: one of which nothing is known. ``is_direct``: heartbeats and
    replication of one of them go over a cable between the machines.
    """
    if not primaries:
        return "There is no primary to be backed."
    if len(primaries) > MAX_PRIMARIES:
        return f"One secondary backs {MAX_PRIMARIES} primaries at most, not {len(primaries)}."
    if len(primaries) > 1:
        if is_direct:
            return "A direct connection is available for one primary only."
        if any(one is not None and one.is_virtual for one in (*primaries, secondary)):
            return "Virtual appliances pair 1:1 only."
    known = [machine for machine in primaries if machine is not None]
    if len(known) < len(primaries):
        return "The machine type of one of the primaries is not known yet."
    kinds = sorted(machine.kind for machine in known)
    if _K.GENERIC in (*kinds, secondary.kind):
        return _why_not_measured(known, secondary)
    if len(known) == 1:
        if secondary.kind in ONE_TO_ONE[kinds[0]]:
            return ""
        return f"A {secondary.kind} does not back a {kinds[0]}: {_backers(kinds[0])}."
    if (kinds[0], kinds[1]) in TWO_TO_ONE.get(secondary.kind, frozenset()):
        return ""
    return f"A {secondary.kind} does not back a {kinds[0]} and a {kinds[1]} at once."


def check_pair(
    primaries: Sequence[Machine], secondary: Machine, *, is_direct: bool = False
) -> None:
    """Raise PairingMatrixRefused unless these machines pair."""
    why = why_no_pair(primaries, secondary, is_direct=is_direct)
    if why:
        raise PairingMatrixRefused(
            f"{why} Nothing was changed.",
            "Choose a secondary that is at least as large as its primary "
            f"({document('platform')}).",
        )


def refusal_of_another(
    address: str, primaries: Sequence[Machine | None], secondary: Machine, *, is_direct: bool
) -> PairingMatrixRefused:
    """Why the secondary at ``address``, which backs others of ``primaries``, gets no more.

    The rules of the guide first; where they allow two primaries, that a node backs one.
    """
    why = why_no_pair(primaries, secondary, is_direct=is_direct)
    why = why or "A node of this version backs one primary."
    return PairingMatrixRefused(
        f"{address} backs a primary already and gets no other one: {why} Nothing was changed.",
        "Pair with a secondary that backs nobody, or dissolve its pair first: 'mse ha unpair' "
        "there.",
    )


def _backers(primary: MachineKind) -> str:
    fit = [kind.value for kind in MachineKind if kind in ONE_TO_ONE[primary]]
    return f"what backs it is {', '.join(fit)}"


def _why_not_measured(primaries: Sequence[Machine], secondary: Machine) -> str:
    if any(machine.kind is not _K.GENERIC for machine in (*primaries, secondary)):
        return "A generic machine pairs with generic machines only."
    if any(machine.is_virtual != secondary.is_virtual for machine in primaries):
        return "A virtual machine and a physical one do not make a pair."
    if secondary.size is None or any(machine.size is None for machine in primaries):
        return "The size of one of the machines is not known yet."
    sizes = [machine.size for machine in primaries if machine.size is not None]
    return _why_smaller(_needed(sizes), secondary.size)


def _needed(primaries: Sequence[Size]) -> Size:
    """What a secondary must measure: as large as each primary, with room for all databases."""
    return Size(
        max(size.cores for size in primaries),
        max(size.memory_bytes for size in primaries),
        sum(size.disk_bytes for size in primaries),
    )


def _why_smaller(needed: Size, found: Size) -> str:
    share = 1 - MEASURING_TOLERANCE
    if found.cores < needed.cores:
        return (
            f"The secondary has {found.cores} processors, fewer than the {needed.cores} that are "
            "needed."
        )
    for what, has, wants in (
        ("memory", found.memory_bytes, needed.memory_bytes),
        ("disk", found.disk_bytes, needed.disk_bytes),
    ):
        if has < wants * share:
            return (
                f"The secondary has {has / 1e9:.1f} GB of {what}, less than the "
                f"{wants / 1e9:.1f} GB that are needed."
            )
    return ""


def as_markdown() -> str:
    """The matrix for docs/platform.md: rows are primaries, columns secondaries."""
    kinds = list(ONE_TO_ONE)
    lines = [
        "| primary \\ secondary | " + " | ".join(kinds) + " |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    for primary in kinds:
        cells = ("Y" if second in ONE_TO_ONE[primary] else "N" for second in kinds)
        lines.append(f"| {primary} | " + " | ".join(cells) + " |")
    lines += ["", "| secondary | two primaries at once |", "|---|---|"]
    for secondary in kinds:
        pairs = [
            f"{first} and {second}"
            for first, second in combinations_with_replacement(sorted(kinds), 2)
            if (first, second) in TWO_TO_ONE.get(secondary, frozenset())
        ]
        lines.append(f"| {secondary} | {', '.join(pairs) or 'not supported'} |")
    return "\n".join(lines) + "\n"
