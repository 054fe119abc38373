"""``confirm-alone``: an owner that booted where nobody answers, and asks before it serves."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

import pytest
from live_core import START, VOTERS, config, record

from openmse.ha.effects import Answer
from openmse.ha.events import Commanded, ConfirmAlone, Ticked
from openmse.ha.node import boot, step
from openmse.ha.values import SECOND, BootAlone, Config, Instant, Mode, NoWitnessMode, Settings

TWO = tuple(voter for voter in VOTERS if not voter.is_witness)


def _asked(known: Config) -> bool:
    """Whether the command is done, half a minute after the machine's boot."""
    n = boot(record("mse1", known), now=START, is_machine_boot=True)
    at = Instant(START + 30 * SECOND)
    n, _ = step(n, Ticked(at))
    assert n.alone_confirmed is False, "it waits to be told"
    n, effects = step(n, Commanded(at, "one", ConfirmAlone()))
    (answer,) = (effect for effect in effects if isinstance(effect, Answer))
    assert answer.is_done is n.alone_confirmed, answer.sentence
    return answer.is_done


@pytest.mark.parametrize("mode", [Mode.ALONE, Mode.PINNED])
def test_an_owner_that_asks_may_be_told(mode: Mode) -> None:
    assert _asked(config(mode, settings=Settings(boot_alone=BootAlone.ASK)))


def test_an_owner_that_may_have_been_fenced_may_not() -> None:
    """The other node may have had it switched off, and own."""
    settings = Settings(boot_alone=BootAlone.ASK, no_witness_mode=NoWitnessMode.FENCING)
    assert not _asked(config(Mode.PINNED, voters=TWO, settings=settings))
