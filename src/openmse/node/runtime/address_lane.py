"""The lane of the virtual IP: makes the machine agree with ``NetWanted``, and says what it sees.

Level-triggered: it compares what is wanted with what the kernel shows at the start, after each
step, at each notice of the kernel, and once a second. So an address that something removes is
back at once, and a firewall reload that takes the kernel lease's tables away is mended.
Before an address is taken the link is asked for 100 ms, from when it is likely to be wanted (a
takeover or a handover is under way), so that this costs no time of its own; who answers is a
conflict, nothing is served, and it is tried again each second. Who claims the address while it is
held here (a machine whose clock stood still, say) has misled the neighbours: it is announced anew,
and shown.
Arming the lease is not done here.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from openmse.errors import NetworkError
from openmse.ha.local import Address, NetView, NetWanted
from openmse.ha.values import MILLISECOND, SECOND, Instant
from openmse.node.drivers.kernel_lease import KernelLease
from openmse.node.drivers.virtual_ip import VirtualIp, VirtualIpConfig

_RETRY_NS = 100 * MILLISECOND
"""After a refusal by the kernel (the interface is down, say)."""
_LEASE_POLL_NS = 20 * MILLISECOND
"""How soon an announcement that waits for the lease looks again."""
_RIVAL_SHOWN_NS = 10 * SECOND
"""How long a rival is shown after its last claim."""
_PROBE_COUNTS_NS = 1 * SECOND
"""How long after its beginning a probe that found nobody lets the address be taken."""
_DEFEND_EVERY_NS = 1 * SECOND
"""Announcements against a rival are not more frequent than this (RFC 5227 §2.4)."""


class AddressSettings(Struct, frozen=True):
    """How the virtual IP is taken and made known. Durations in nanoseconds."""

    interface: str
    addresses: tuple[str, ...]
    probe_ns: int = 100 * MILLISECOND
    announce_after_ns: tuple[int, ...] = (0, 1 * SECOND, 2 * SECOND, 5 * SECOND)
    announce_every_ns: int = 60 * SECOND
    conflict_retry_ns: int = 1 * SECOND
    check_every_ns: int = 1 * SECOND


class AddressLane:
    """One task that holds, or does not hold, the virtual IP of one group."""

    def __init__(
        self,
        settings: AddressSettings,
        lease: KernelLease,
        *,
        on_view: Callable[[NetView], None],
        clock: Callable[[], Instant],
    ) -> None:
        """Prepare; nothing is touched before ``run``. Raises: ConfigError."""
        self._settings = settings
        self._lease = lease
        self._on_view = on_view
        self._clock = clock
        self._driver = VirtualIp(VirtualIpConfig(settings.interface, settings.addresses))
        self._wanted: NetWanted | None = None
        self._view = NetView()
        self._wake = asyncio.Event()
        self._probe: asyncio.Task[str] | None = None
        self._probed_at = Instant(0)
        self._announce_at: list[Instant] = []
        self._not_before = Instant(0)
        self._is_ours = False
        self._rival = ""
        self._rival_until = Instant(0)
        self._defended_at = Instant(0)
        self.failure = ""
        """A sentence for the operator while the kernel refuses something; '' otherwise."""

    @property
    def view(self) -> NetView:
        """What was last observed."""
        return self._view

    def set_wanted(self, wanted: NetWanted) -> None:
        """State the level to work towards; never blocks. Before the first call nothing changes."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._not_before = Instant(0)
        if not wanted.address and not wanted.probe:
            self._drop_probe()
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. An address that is held stays when this ends."""
        self._driver.watch(self._wake.set)
        try:
            await self._observe()
            while True:
                self._wake.clear()
                await self._work()
                await self._sleep()
        finally:
            self._drop_probe()
            self._driver.unwatch()

    def close(self) -> None:
        """Free sockets and thread, after ``run`` has ended; the address stays as it is."""
        self._driver.close()

    async def _work(self) -> None:
        """One comparison of wanted and observed, and what follows from it."""
        if self._clock() < self._not_before:
            return
        try:
            await self._reconcile()
            self.failure = ""
        except NetworkError as error:
            self.failure = error.sentence
            self._not_before = Instant(self._clock() + _RETRY_NS)
            self._show(Address.ABSENT if self._view.address is Address.PROBING else None)

    async def _reconcile(self) -> None:
        wanted = self._wanted
        if wanted is None:
            await self._observe()
            return
        if not wanted.address:
            await self._give_up()  # before anything that could fail
        self._lease.ensure()
        self._set_hold(not (wanted.admit and wanted.address))
        if not wanted.address:
            if wanted.probe:
                self._begin_probe()
            return
        if not await self._driver.is_held():
            await self._take()
        elif self._is_ours:
            self._announce_due()
        else:
            self._take_over_held()
        self._show(None)

    async def _observe(self) -> None:
        """See whether the address is there, without changing anything."""
        try:
            self._show(Address.HELD if await self._driver.is_held() else Address.ABSENT)
        except NetworkError as error:
            self.failure = error.sentence

    async def _give_up(self) -> None:
        self._is_ours = False
        self._announce_at = []
        self._rival_until = Instant(0)
        self._driver.unwatch_rivals()
        await self._driver.remove()
        self._show(Address.ABSENT)

    async def _take(self) -> None:
        """Probe, unless the address was ours and somebody removed it; then add and announce."""
        if not self._is_ours and not await self._is_free():
            return
        wanted = self._wanted
        if wanted is None or not wanted.address:
            return  # given up during the probe; the next comparison removes what is left
        await self._driver.add()
        self._take_over_held()

    def _take_over_held(self) -> None:
        self._is_ours = True
        self._plan_announcements()
        self._announce_due()
        self._show(Address.HELD)
        self._driver.watch_rivals(self._on_rival)

    def _plan_announcements(self) -> None:
        now = self._clock()
        self._announce_at = [Instant(now + after) for after in self._settings.announce_after_ns]

    def _on_rival(self, mac: str) -> None:
        """Somebody else claims the address; if we rightly hold it, say so again."""
        now = self._clock()
        if not self._is_ours or not self._lease.is_live():
            return
        self._rival, self._rival_until = mac, Instant(now + _RIVAL_SHOWN_NS)
        if now >= self._defended_at + _DEFEND_EVERY_NS:
            self._defended_at = now
            self._plan_announcements()
        self._wake.set()

    async def _is_free(self) -> bool:
        """Ask the link; on a conflict show it and plan the next attempt."""
        if self._view.address is not Address.CONFLICT:
            self._show(Address.PROBING)
        is_early = self._has_fresh_probe()
        rival = await self._probed()
        if rival and is_early:
            rival = await self._probed()  # whoever had it then may have given it up since
        if rival:
            self._not_before = Instant(self._clock() + self._settings.conflict_retry_ns)
            self._show(Address.CONFLICT, rival)
        return rival == ""

    async def _probed(self) -> str | None:
        """Who else has the address: a MAC, '' for nobody, None if it is no longer wanted."""
        self._begin_probe()
        probe = self._probe
        assert probe is not None
        try:
            return await probe
        except asyncio.CancelledError:
            if probe.cancelled() and not _is_cancelling():
                return None
            probe.cancel()
            raise
        finally:
            self._probe = None

    def _has_fresh_probe(self) -> bool:
        return self._probe is not None and self._clock() - self._probed_at < _PROBE_COUNTS_NS

    def _begin_probe(self) -> None:
        """Ask the link, beside everything else, unless it was asked just now."""
        if self._has_fresh_probe():
            return
        self._drop_probe()
        self._probed_at = self._clock()
        self._probe = asyncio.create_task(
            self._driver.wait_claimed(self._settings.probe_ns / SECOND)
        )
        self._probe.add_done_callback(lambda probe: probe.cancelled() or probe.exception())

    def _drop_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def _set_hold(self, is_held: bool) -> None:
        if self._lease.is_held != is_held:
            self._lease.hold(is_held)

    def _announce_due(self) -> None:
        """Announce if it is time, and only while the lease lives: a packet socket passes by it."""
        now = self._clock()
        if not self._announce_at or now < self._announce_at[0] or not self._lease.is_live():
            return
        self._driver.announce()
        while self._announce_at and self._announce_at[0] <= now:
            self._announce_at.pop(0)
        if not self._announce_at:
            self._announce_at.append(Instant(now + self._settings.announce_every_ns))

    def _show(self, address: Address | None, rival: str = "") -> None:
        """Report a view if it differs from the last; ``address`` None keeps that part."""
        if address is None:
            address, rival = self._view.address, self._view.conflict_with
        if address is Address.HELD:
            rival = self._rival if self._clock() < self._rival_until else ""
        admits = address is Address.HELD and not self._lease.is_held
        view = NetView(address=address, admits=admits, conflict_with=rival)
        if view != self._view:
            self._view = view
            self._on_view(view)

    async def _sleep(self) -> None:
        """Wait for a change, or for the next thing that is due."""
        now = self._clock()
        due = now + self._settings.check_every_ns
        if self._announce_at:
            at = self._announce_at[0]
            due = min(due, max(at, now + _LEASE_POLL_NS) if at <= now else at)
        if self._not_before > now:
            due = min(due, self._not_before)
        try:
            async with asyncio.timeout(max(0, due - now) / SECOND):
                await self._wake.wait()
        except TimeoutError:
            return


def _is_cancelling() -> bool:
    """Whether the running task itself is being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
