"""The arithmetic of the failover wait (protocol §3): one knob, everything else follows.

Checked when loaded: an impossible timing is refused with its numbers, never bent.
"""

from msgspec import Struct

from openmse.ha.values import MILLISECOND, SECOND

WAIT_MIN_NS = 2 * SECOND
WAIT_EXPERIMENTAL_NS = 1 * SECOND
WAIT_MAX_NS = 120 * SECOND

CUTOFF = 0.8
"""The part of a lease after which the owner stops by itself (protocol §4.1)."""
RESET_GRACE_NS = 1 * SECOND
"""How long a mere reset of the replication connection is forgiven (protocol §3)."""
WITNESS_LOST_NS = 60 * SECOND
WITNESS_BACK_NS = 10 * SECOND
BOOT_ALONE_NS = 20 * SECOND
SIGN_INTERVAL_NS = 1 * SECOND
"""How often a standby's receiver shows life while nothing is written: PostgreSQL's
``wal_receiver_status_interval``, which takes whole seconds."""
QUIET_LOOK_NS = SECOND // 2
"""Between two looks at a database that is whole and at rest."""
REST_LOSS_NS = SIGN_INTERVAL_NS + 2 * QUIET_LOOK_NS + SECOND // 2
"""What a living peer's sign may be old while nobody waits for it: it is seen up to a look late and
dated up to a look back, and machines are not punctual to the millisecond."""
STOP_BUDGET_NS = 200 * MILLISECOND
"""The worst stop of the kernel and the processes after the cut-off, measured on real kernels."""
DRIFT = 0.0005
"""The clock drift between two machines that the margin must cover (500 ppm)."""


class Timing(Struct, frozen=True):
    """All durations that follow from the failover wait. Nanoseconds."""

    wait_ns: int
    margin_ns: int
    lease_ns: int
    beat_ns: int
    sync_loss_ns: int
    """Without a sign of the peer while a commit waits for it: it is lost."""
    rest_loss_ns: int
    """The same while nothing waits; its first waiting commit gives it ``sync_loss_ns`` anew."""
    cutoff_ns: int
    """After sending a renewal that was granted: when the owner stops by itself."""


def timing(wait_ns: int) -> Timing:
    """Derive every duration from the failover wait ``wait_ns``."""
    margin = max(SECOND // 4, 150 * MILLISECOND + wait_ns // 100)
    lease = wait_ns - margin
    beat = min(max(lease // 10, 100 * MILLISECOND), 500 * MILLISECOND)
    sync_loss = min(lease * 6 // 10, 3 * SECOND)
    rest_loss = max(sync_loss, REST_LOSS_NS)
    return Timing(wait_ns, margin, lease, beat, sync_loss, rest_loss, int(lease * CUTOFF))


def timing_faults(wait_ns: int, *, is_experimental: bool = False) -> list[str]:
    """Say in sentences with numbers why this failover wait cannot work; empty if it can."""
    faults = []
    least = WAIT_EXPERIMENTAL_NS if is_experimental else WAIT_MIN_NS
    seconds = wait_ns / SECOND
    if not least <= wait_ns <= WAIT_MAX_NS:
        faults.append(
            f"The failover wait is {seconds:g} s; it must lie between {least / SECOND:g} s and "
            f"{WAIT_MAX_NS / SECOND:g} s"
            + ("." if is_experimental else " (1 s is accepted only as experimental).")
        )
        return faults
    t = timing(wait_ns)
    drift = int(t.wait_ns * DRIFT)
    if t.margin_ns < STOP_BUDGET_NS + drift:
        faults.append(
            f"The margin of {t.margin_ns / SECOND:.3f} s between the lease and the failover wait "
            f"is smaller than the worst stop ({STOP_BUDGET_NS / SECOND:.3f} s) and the clock drift "
            f"({drift / SECOND:.4f} s) together."
        )
    if t.beat_ns * 3 > t.lease_ns:
        faults.append(
            f"The heartbeat interval of {t.beat_ns / SECOND:.3f} s is more than a third of the "
            f"lease of {t.lease_ns / SECOND:.3f} s: two lost heartbeats would stop the owner."
        )
    return faults
