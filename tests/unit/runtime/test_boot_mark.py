"""When a restarted health monitor may take it that this boot's owner was confirmed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import START, config, record

from openmse.ha.events import Ticked
from openmse.ha.node import boot, step
from openmse.ha.timing import BOOT_ALONE_NS
from openmse.ha.values import Instant, Mode
from openmse.node.runtime.boot_mark import BootMark


def test_a_lonely_boot_is_one_until_it_was_confirmed(tmp_path: Path) -> None:
    mark = BootMark(tmp_path)
    assert mark.is_machine_boot
    node = boot(record("mse1", config(Mode.ALONE)), now=START, is_machine_boot=True)
    node, _ = step(node, Ticked(START))
    mark.on_step(node)
    assert BootMark(tmp_path).is_machine_boot, "a health monitor that died while it asked"
    node, _ = step(node, Ticked(Instant(START + BOOT_ALONE_NS)))
    assert node.alone_confirmed
    mark.on_step(node)
    assert not BootMark(tmp_path).is_machine_boot


def test_a_standby_leaves_no_mark(tmp_path: Path) -> None:
    node = boot(record("mse2", config(Mode.SYNC)), now=START, is_machine_boot=True)
    node, _ = step(node, Ticked(START))
    mark = BootMark(tmp_path)
    mark.on_step(node)
    assert mark.is_machine_boot
