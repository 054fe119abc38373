"""The few calls of the operating system that Python has no name for, and priorities."""

import ctypes
import os
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36
_MCL_CURRENT_AND_FUTURE = 3
NICE = -10


def become_subreaper() -> None:
    """Have orphans of a dead health monitor become our children, so that they are reaped."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def lock_memory() -> bool:
    """Keep this process out of the swap; return whether the kernel agreed."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlockall(_MCL_CURRENT_AND_FUTURE) == 0)


def raise_priority() -> bool:
    """Run this process at nice -10 and what it starts at the ordinary level; whether it worked.

    Resetting on fork is left to the kernel (SCHED_RESET_ON_FORK), so PostgreSQL and services
    never run before the process that watches them. Threads are reset too. Without the right to
    do it nothing changes.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except OSError:
        return False
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    return True
