"""How every run begins: a pair with or without a witness, all machines off, one config chosen."""

from openmse.ha.invariants import Chosen
from openmse.ha.values import (
    Ballot,
    Config,
    Lineage,
    Mode,
    Record,
    Settings,
    Voter,
)
from openmse.lab.exploration.database import Data
from openmse.lab.exploration.observer import History
from openmse.lab.exploration.world import Machine

FIRST = Lineage(1, 1, "a")


def config(mode: Mode, settings: Settings, *, has_witness: bool = True) -> Config:
    """The config that a fresh pair starts from; ``a`` owns."""
    ids = ["a", "b"] + (["w"] if has_witness else [])
    voters = tuple(Voter(i, f"{i}-0", i == "w") for i in ids)
    return Config(
        term=1,
        epoch=1,
        mode=mode,
        owner="a",
        voters=voters,
        lineage=FIRST,
        settings=settings,
        primary="a",
        reason="start",
    )


def machines(mode: Mode, settings: Settings, *, has_witness: bool = True) -> list[Machine]:
    """The machines of a pair in which ``a`` owns and ``b`` holds the same data; all are off."""
    first = config(mode, settings, has_witness=has_witness)
    ballot = Ballot(1, 1, "a")
    made = []
    for voter in first.voters:
        record = Record(
            me=voter.id,
            incarnation=voter.incarnation,
            boot=1,
            promised=ballot,
            accepted=ballot,
            value=first,
            chosen=ballot,
            known=first,
            largest_wait_ns=settings.failover_wait_ns,
        )
        data = Data() if voter.is_witness else Data(wal=(1,), lineage=FIRST)
        made.append(Machine(voter.id, record, is_witness=voter.is_witness, is_on=False, data=data))
    return made


def history(mode: Mode, settings: Settings, *, has_witness: bool = True) -> History:
    """The observer's memory at the start: the first config is chosen."""
    return History(chosen=(Chosen(config(mode, settings, has_witness=has_witness)),))
