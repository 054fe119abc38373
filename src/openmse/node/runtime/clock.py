"""The one clock: CLOCK_BOOTTIME, which goes on through suspend and never jumps."""

import time

from openmse.ha.values import Instant


def now() -> Instant:
    """This moment, in nanoseconds of CLOCK_BOOTTIME."""
    return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
