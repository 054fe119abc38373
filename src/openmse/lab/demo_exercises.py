"""Which exercises a demo shows, in which order, and the two that only a demo needs.

Two rows tell one story here: the witness is lost for over a minute, and then, with it still away,
the secondary too (protocol §6: an owner that is PINNED or ALONE serves on by itself). So the minute
until PINNED is waited for once.
"""

from collections.abc import Sequence

from openmse.errors import UsageError
from openmse.lab import exercises
from openmse.lab.exercises import Exercise
from openmse.lab.stage import SECOND, Stage, Window

FULL = (
    "switchover",
    "failback",
    "kill-health-monitor",
    "kill-postgres",
    "power-off",
    "power-on",
    "cut-ps",
    "cut-pw",
    "cut-sw",
    "cut-p",
    "cut-p-voters",
    "cut-s",
    "lose-w",
    "lose-w-then-s",
    "cut-all",
    "cut-heartbeats",
    "one-way",
    "flap",
    "freeze",
    "freeze-all",
)
QUICK = (
    "switchover",
    "failback",
    "kill-health-monitor",
    "kill-postgres",
    "power-off",
    "power-on",
    "cut-ps",
    "cut-w-brief",
    "cut-p-voters",
    "freeze",
)
PINNED_WITHIN_S = 100.0
"""60 s without the witness, and what a busy computer needs."""


def lose_witness(stage: Stage) -> Window:
    """W alone for over a minute: the pair is PINNED, and serves on. W stays away."""
    begin = stage.laboratory.cut(stage.witness)
    stage.mark(begin, stage.witness, "W cut off")
    stage.until_mode("PINNED", PINNED_WITHIN_S)
    return Window(begin, stage.watch(1.0))


def lose_peer_too(stage: Stage) -> Window:
    """PINNED, and S is cut off too: P needs nobody, and no lease of it ends. Then all is mended."""
    owner = stage.owner()
    peer = stage.other(owner)
    begin = stage.laboratory.cut(peer)
    stage.mark(begin, peer, "S cut off too")
    stage.until_served(stage.until_mode("ALONE", stage.takeover_s), by=owner)
    longer_than_any_lease = stage.watch(stage.failover_wait_s + 1)
    end = stage.until_served(longer_than_any_lease, by=owner)
    healed = stage.laboratory.heal()
    stage.mark(healed, "", "cables healed", is_mend=True)
    return Window(begin, end, (stage.until_sync() - healed) / SECOND)


_OWN = (
    Exercise("lose-w", "cut: W, for over a minute", lose_witness),
    Exercise("lose-w-then-s", "cut: then S too, P alone", lose_peer_too, is_repair=True),
)
CATALOGUE: dict[str, Exercise] = exercises.CATALOGUE | {own.key: own for own in _OWN}
_FOLLOWS = {"power-on": "power-off", "lose-w-then-s": "lose-w"}
"""What begins where another left the pair; neither is shown without the other."""


def chosen(only: Sequence[str], *, is_quick: bool) -> list[Exercise]:
    """What is shown, in order; of ``only``, with what belongs to it, where that is not empty.

    Raises: UsageError for a name that is none.
    """
    known = [*FULL, *(key for key in QUICK if key not in FULL)]
    unknown = [key for key in only if key not in known]
    if unknown:
        raise UsageError(
            f"There is no such exercise: {', '.join(unknown)}.", f"Exercises: {', '.join(known)}."
        )
    wanted = set(only)
    for second, first in _FOLLOWS.items():
        if wanted & {first, second}:
            wanted |= {first, second}
    keys = [key for key in known if key in wanted] or (QUICK if is_quick else FULL)
    return [CATALOGUE[key] for key in keys]
