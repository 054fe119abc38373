"""The kernel lease: the layer that stops a node whose health monitor cannot (protocol §4.2).

While an element lives in an nftables set, the virtual IPs and the service ports pass; when its
timeout runs out the kernel drops everything, whether or not this process is alive, running or
frozen. Nothing here waits: each call is one or two system calls, so the event loop makes them
itself. Policy (when to arm, until when) is the caller's.
"""

import errno
import time
from collections.abc import Callable, Collection

from msgspec import Struct

from openmse.errors import NetworkError
from openmse.ha.values import FOREVER, MILLISECOND, Instant
from openmse.node.drivers.kernel_lease import nft_library
from openmse.node.drivers.kernel_lease.elements import ARP, INET, Elements, remove_tables_except
from openmse.node.drivers.kernel_lease.ruleset import LeaseConfig, build, table_name
from openmse.node.drivers.netlink import NetlinkError

SHORTEST_MS = 50
"""A lease with less than this left is not armed: it would be over before it was used."""
LATE_NS = 40 * MILLISECOND
"""How long an arming may take before it counts as late: the kernel counts from its own reading
of the clock, so the lease ends later by as much. Covered by the margin (at least 250 ms)."""
_ATTEMPTS_MAX = 3

Clock = Callable[[], Instant]


def boottime() -> Instant:
    """Now, as nanoseconds of CLOCK_BOOTTIME."""
    return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class LeaseState(Struct, frozen=True):
    """What the kernel holds at the moment of reading."""

    is_installed: bool
    """Both tables are there with exactly our rules; the other fields are read regardless."""
    is_armed: bool
    until: Instant
    """When it ends by itself: FOREVER for a lease without end, 0 while not armed."""
    is_held: bool
    """Clients of the service ports are reset."""


class KernelLease:
    """The lease of one group in this network namespace.

    Not thread-safe: for the event loop's thread only.
    """

    def __init__(self, config: LeaseConfig, clock: Clock = boottime) -> None:
        """Prepare; changes nothing in the kernel. Raises: ConfigError, NetworkError."""
        self._rules = build(config)
        self._clock = clock
        try:
            self._elements = Elements(self._rules.table)
        except NetlinkError as error:
            raise _translated(error) from error
        self._until = Instant(0)
        self._is_held = True

    @property
    def until(self) -> Instant:
        """When the lease that was last armed (or found at ``install``) ends; 0: none."""
        return self._until

    @property
    def is_held(self) -> bool:
        """Whether clients were last told to stay out."""
        return self._is_held

    def is_live(self) -> bool:
        """Whether the lease has not run out, by this process's memory of it."""
        return self._clock() < self._until

    def close(self) -> None:
        """Close the netlink socket; the kernel's state stays as it is."""
        self._elements.close()

    def install(self) -> bool:
        """Make sure our tables are there; return whether they already were (adoption).

        Compatible tables are kept, element and all, so that a restarted health monitor causes no
        gap. Others of our name are replaced in one transaction that carries a living lease over.
        Raises: NetworkError.
        """
        state = self.read_back()
        self._until, self._is_held = state.until, state.is_held
        if state.is_installed:
            return True
        self._write_tables()
        return False

    def arm(self, until: Instant) -> bool:
        """Let everything pass until ``until``; return whether that is now in force in time.

        Below 50 ms nothing is armed (what was armed before stays, and ends by itself; a lease
        without end does not, so it is removed). After
        arming the clock is read again: a late arming is replaced by one that allows for as much
        delay again (so that a busy machine alone never makes the lease lapse), or removed before
        anything else if time has run out.
        Raises: NetworkError; the earlier lease, if any, still ends by itself.
        """
        allowance = 0
        is_late = False
        for _ in range(_ATTEMPTS_MAX):
            before = self._clock()
            timeout_ms = (until - before - allowance) // MILLISECOND
            if timeout_ms < SHORTEST_MS:
                break
            self._renew(timeout_ms)
            after = self._clock()
            if after - before <= LATE_NS + allowance and after < until:
                self._until = until
                return True
            is_late = True
            allowance = after - before
        if is_late or self._until >= FOREVER:
            self.disarm()
        return False

    def arm_forever(self) -> None:
        """Let everything pass without end (ALONE, PINNED). Raises: NetworkError."""
        self._renew(None)
        self._until = FOREVER

    def disarm(self) -> None:
        """Let nothing pass from now on. Raises: NetworkError."""
        before, self._until = self._until, Instant(0)
        try:
            self._guarded(self._elements.remove_lease)
        except NetworkError:
            self._until = before
            raise

    def hold(self, is_held: bool) -> None:
        """Keep clients of the service ports out (with a reset), or let them in.

        Raises: NetworkError.
        """
        self._is_held = is_held
        self._guarded(lambda: self._elements.set_admit(not is_held))

    def read_back(self) -> LeaseState:
        """Read what the kernel holds. Raises: NetworkError."""
        try:
            is_installed = self._is_installed()
            try:
                lives = self._elements.lives()
                is_held = not self._elements.is_admitting()
            except NetlinkError as error:
                if error.errno != errno.ENOENT:
                    raise
                return LeaseState(False, False, Instant(0), True)
        except NetlinkError as error:
            raise _translated(error) from error
        until = FOREVER if lives.is_armed else Instant(0)
        if lives.remaining_ms is not None:
            until = Instant(self._clock() + lives.remaining_ms * MILLISECOND)
        return LeaseState(is_installed, lives.is_armed, until, is_held)

    def ensure(self) -> bool:
        """Put back tables that somebody removed (a firewall reload); return whether it had to.

        The lease is put back as it was last armed, for what is left of it.
        Raises: NetworkError.
        """
        try:
            if self._is_installed():
                return False
        except NetlinkError as error:
            raise _translated(error) from error
        self._write_tables()
        return True

    def remove(self) -> None:
        """Remove our tables: nothing is guarded any more. Raises: NetworkError."""
        self._until = Instant(0)
        try:
            self._elements.delete_tables()
        except NetlinkError as error:
            raise _translated(error) from error

    def _is_installed(self) -> bool:
        mark = self._rules.fingerprint.encode()
        for family, count in ((INET, self._rules.inet_rules), (ARP, self._rules.arp_rules)):
            shape = self._elements.shape(family)
            if shape is None or mark not in shape[0] or shape[1] != count:
                return False
        return True

    def _renew(self, timeout_ms: int | None) -> None:
        self._guarded(lambda: self._elements.renew(timeout_ms))

    def _guarded(self, change: Callable[[], None]) -> None:
        """Make a change; where the tables are gone, put them back first."""
        try:
            try:
                change()
            except NetlinkError as error:
                if error.errno != errno.ENOENT:
                    raise
                self._write_tables()
                change()
        except NetlinkError as error:
            raise _translated(error) from error

    def _write_tables(self) -> None:
        """Replace both tables in one transaction, with the lease and the hold as last set."""
        name = self._rules.table
        text = "".join(
            f"add table {family} {name}\ndelete table {family} {name}\n"
            for family in ("inet", "arp")
        )
        text += self._rules.text
        timeout = self._carried_timeout()
        if timeout is not None:
            text += f"add element inet {name} lease {{ ipv4{timeout}, ipv6{timeout} }}\n"
            text += f"add element arp {name} lease {{ ip{timeout} }}\n"
        if not self._is_held:
            text += f"add element inet {name} admit {{ ipv4, ipv6 }}\n"
        nft_library.apply(text)

    def _carried_timeout(self) -> str | None:
        if self._until >= FOREVER:
            return ""
        left_ms = (self._until - self._clock()) // MILLISECOND
        return f" timeout {left_ms}ms" if left_ms >= SHORTEST_MS else None


def remove_other_leases(groups: Collection[str]) -> tuple[str, ...]:
    """Remove the tables of every group but ``groups``; return the names of the tables.

    A group that was left (unpaired, dissolved) must not go on closing the same address and port to
    its successor. Raises: NetworkError.
    """
    try:
        return remove_tables_except(frozenset(table_name(group) for group in groups))
    except NetlinkError as error:
        raise _translated(error) from error


def _translated(error: NetlinkError) -> NetworkError:
    return NetworkError(
        f"The kernel refused a change of the lease that guards the virtual IP: {error.strerror}.",
        "The lease ends by itself; see whether another program removes the tables openmse_*.",
        code="MSE-NET-012",
    )
