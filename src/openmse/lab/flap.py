"""Cuts and heals one connection again and again, until told to end.

Run as ``python -m openmse.lab.flap LAB MACHINE OTHER PERIOD_S TIMES`` by ``Laboratory.flap``; ended
by ``heal``, which then restores the switch, so a half-done cut does no harm.
"""

import itertools
import sys
import time

from openmse.lab.laboratory import Laboratory
from openmse.lab.state import Block


def main() -> int:
    """Flap; 0 when ``TIMES`` cuts are done."""
    name, machine, other, period_s, times = sys.argv[1:6]
    laboratory = Laboratory.open(name)
    blocks = [Block(machine, other), Block(other, machine)]
    cuts = range(int(times)) if int(times) else itertools.count()
    for _ in cuts:
        laboratory.cut_quickly(blocks)
        time.sleep(float(period_s) / 2)  # the fault itself: this long cut, then this long healed
        laboratory.cut_quickly([])
        time.sleep(float(period_s) / 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
