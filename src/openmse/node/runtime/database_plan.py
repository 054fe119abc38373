"""What the database lane does next: wanted and observed in, one act out. Pure.

Every row says one thing; the lane performs it, observes again and asks again.
"""

from dataclasses import dataclass
from enum import StrEnum

from openmse.ha.local import DbProcess, DbRole, DbWanted, Rung
from openmse.node.drivers.postgres.instance import SETTLING
from openmse.node.drivers.postgres.rejoin import RUNGS, Upstream, is_allowed, needed_rung
from openmse.node.drivers.postgres.sidecar import DirectoryRecord


class Act(StrEnum):
    """One thing the lane can do."""

    NOTHING = "nothing"
    START_PRIMARY = "start_primary"
    START_STANDBY = "start_standby"
    STOP = "stop"
    PROMOTE = "promote"
    CUT = "cut"
    RECEIVE = "receive"
    REWIND = "rewind"
    REBUILD = "rebuild"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the lane knows. ``end_lsn`` None: nobody can tell where our WAL ends."""

    process: DbProcess
    role: DbRole
    record: DirectoryRecord | None = None
    refusal: str = ""
    marker: str = ""
    end_lsn: int | None = None
    is_told_to_receive: bool = False
    is_cut: bool = False
    is_promoting: bool = False
    least_rung: Rung = Rung.STREAM
    """What earlier attempts have shown to be needed."""


@dataclass(frozen=True, slots=True)
class Step:
    """The act, the rung that following the wanted history takes, and why if it is a refusal."""

    act: Act
    rung: Rung = Rung.STREAM
    sentence: str = ""


NOTHING = Step(Act.NOTHING)


def next_step(wanted: DbWanted, facts: Facts) -> Step:
    """The next step towards ``wanted``."""
    if facts.process is DbProcess.STOPPING:
        return NOTHING
    if facts.process is DbProcess.DOWN:
        return _while_down(wanted, facts)
    if wanted.role is DbRole.DOWN:
        return Step(Act.STOP)
    if facts.process is DbProcess.STARTING:
        is_misled = wanted.role is DbRole.STANDBY and facts.role is DbRole.PRIMARY
        return Step(Act.STOP) if is_misled else NOTHING
    if facts.is_promoting:
        return NOTHING
    if wanted.role is DbRole.STANDBY:
        return _running_towards_standby(wanted, facts)
    return _running_towards_primary(wanted, facts)


def _running_towards_standby(wanted: DbWanted, facts: Facts) -> Step:
    if facts.role is DbRole.PRIMARY:
        return Step(Act.STOP)
    rung = facts.least_rung
    is_worth_stopping = rung is not Rung.STREAM and is_allowed(rung, wanted.rung)
    if _is_other(wanted, facts.record) or is_worth_stopping:
        return Step(Act.STOP, rung)
    if wanted.receiver and not facts.is_told_to_receive:
        return Step(Act.RECEIVE, rung)
    if not wanted.receiver and not facts.is_cut:
        return Step(Act.CUT, rung)
    return Step(Act.NOTHING, rung)


def _running_towards_primary(wanted: DbWanted, facts: Facts) -> Step:
    if facts.role is DbRole.PRIMARY and not _is_other(wanted, facts.record):
        return NOTHING
    refusal = _lineage_refusal(wanted, facts)
    if refusal:
        return Step(Act.REFUSE, sentence=refusal)
    if facts.role is DbRole.PRIMARY:
        return Step(Act.STOP)  # a new history begins with a promotion, from a standby's recovery
    return Step(Act.PROMOTE if facts.is_cut else Act.CUT)


def _while_down(wanted: DbWanted, facts: Facts) -> Step:
    if wanted.role is DbRole.DOWN:
        return NOTHING
    if facts.refusal:
        return Step(Act.REFUSE, sentence=facts.refusal)
    if wanted.role is DbRole.STANDBY:
        return _down_towards_standby(wanted, facts)
    if facts.role is DbRole.DOWN or facts.record is None:
        return _refuse("This node has no database yet, so it cannot serve one.")
    if facts.marker:
        return _refuse(
            f"The database of this node is incomplete ({facts.marker}): it must follow the other "
            "node until it is whole before it can serve."
        )
    refusal = _lineage_refusal(wanted, facts)
    if refusal:
        return _refuse(refusal)
    if facts.role is DbRole.PRIMARY and not _is_other(wanted, facts.record):
        return Step(Act.START_PRIMARY)
    return Step(Act.START_STANDBY)


def _down_towards_standby(wanted: DbWanted, facts: Facts) -> Step:
    rung = rung_towards(wanted, facts)
    if not is_allowed(rung, wanted.rung):
        return Step(Act.NOTHING, rung)
    if rung is Rung.STREAM:
        return Step(Act.START_STANDBY, rung)
    return Step(Act.REWIND if rung is Rung.REWIND else Act.REBUILD, rung)


def rung_towards(wanted: DbWanted, facts: Facts) -> Rung:
    """What it takes to follow the wanted history from the data directory as it is."""
    if facts.role is DbRole.DOWN or facts.record is None:
        return Rung.REBUILD
    if facts.marker and facts.marker != SETTLING:
        return Rung.REBUILD
    if wanted.lineage is None:
        needed = Rung.STREAM
    elif facts.marker and facts.record.lineage != wanted.lineage:
        needed = Rung.REBUILD
    else:
        upstream = Upstream(
            lineage=wanted.lineage,
            parent_lineage=wanted.parent_lineage,
            fork_lsn=wanted.fork_lsn,
        )
        needed = needed_rung(facts.record, facts.end_lsn, upstream)
    return max(needed, facts.least_rung, key=RUNGS.index)


def _is_other(wanted: DbWanted, record: DirectoryRecord | None) -> bool:
    """Whether the wanted history is not the one the data directory is on."""
    return wanted.lineage is not None and record is not None and record.lineage != wanted.lineage


def _lineage_refusal(wanted: DbWanted, facts: Facts) -> str:
    """Why this data directory must not begin the wanted history; '' if it may (protocol §2)."""
    if not _is_other(wanted, facts.record) or wanted.parent_lineage is None:
        return ""
    assert facts.record is not None
    if facts.record.lineage == wanted.parent_lineage:
        return ""
    ours = facts.record.lineage
    return (
        f"The database of this node is on history {ours.term}.{ours.epoch} of {ours.owner}, which "
        "is not the one that the new history is to continue, so it is not promoted."
    )


def _refuse(sentence: str) -> Step:
    return Step(Act.REFUSE, sentence=sentence)
