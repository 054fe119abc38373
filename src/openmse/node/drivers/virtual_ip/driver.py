"""The virtual IP port: take it, give it back, see whether it is held, watch it.

Changes run in a thread of their own, as the kernel's lock on its network configuration may be
busy (a namespace being torn down holds it for tens of milliseconds) and a heartbeat must not wait
for that. Holds no policy: who may hold the address, and for how long, is decided elsewhere.
"""

import asyncio
import ipaddress
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec import Struct

from openmse.errors import ConfigError, NetworkError
from openmse.node.drivers.virtual_ip import link
from openmse.node.drivers.virtual_ip.addresses import Addresses, ChangeMonitor
from openmse.node.drivers.virtual_ip.frames import Claim, Ip, mac_text

T = TypeVar("T")


class VirtualIpConfig(Struct, frozen=True):
    """Which addresses move together, and on which interface they live."""

    interface: str
    addresses: tuple[str, ...]


class VirtualIp:
    """The virtual addresses of one group on one interface."""

    def __init__(self, config: VirtualIpConfig) -> None:
        """Prepare; changes nothing. Raises: ConfigError for an address that is none."""
        self._interface = config.interface
        self._addresses = _parsed(config.addresses)
        self._table = Addresses()
        self._monitor: ChangeMonitor | None = None
        self._rivals: link.ClaimWatch | None = None
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._thread = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="virtual-ip",
            initializer=_keep_priority,
            initargs=(nice,),
        )

    def close(self) -> None:
        """Give back sockets and thread; a held address stays, for the next process to adopt."""
        if self._monitor is not None:
            self.unwatch()
        self._thread.shutdown(wait=True)
        self._table.close()

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` from the running loop whenever the address may have changed."""
        self._monitor = monitor = ChangeMonitor()

        def read() -> None:
            if monitor.is_concerned(self._addresses):
                on_change()

        asyncio.get_running_loop().add_reader(monitor, read)

    def unwatch(self) -> None:
        """Stop watching."""
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor)
            self._monitor.close()
            self._monitor = None
        self.unwatch_rivals()

    async def add(self, valid_lft_s: int | None = None) -> None:
        """Add all addresses; those that are there already stay. Raises: NetworkError."""
        await self._in_thread(lambda: self._add(valid_lft_s))

    async def remove(self) -> bool:
        """Remove all addresses; return whether there was one. Raises: NetworkError."""
        return await self._in_thread(self._remove)

    async def is_held(self) -> bool:
        """Whether all addresses are there, ready for use. Raises: NetworkError."""
        return await self._in_thread(
            lambda: all(self._table.is_held(self._interface, a) for a in self._addresses)
        )

    async def is_present(self) -> bool:
        """Whether any of the addresses is on any interface. Raises: NetworkError."""
        return await self._in_thread(
            lambda: any(entry.address in self._addresses for entry in self._table.listed())
        )

    async def wait_claimed(self, wait_s: float) -> str:
        """The MAC of whoever answers for one of the addresses within ``wait_s``, or ''.

        Raises: NetworkError.
        """
        return await link.wait_claimed(self._interface, self._addresses, wait_s)

    def watch_rivals(self, on_rival: Callable[[str], None]) -> None:
        """Call ``on_rival`` with the MAC of whoever claims one of the addresses from now on.

        A machine that only asks does not count: the kernel answers it. Replaces an earlier watch.
        Raises: NetworkError.
        """
        self.unwatch_rivals()

        def take(claim: Claim) -> None:
            if not claim.is_probe:
                on_rival(mac_text(claim.mac))

        self._rivals = link.ClaimWatch(self._interface, self._addresses, take)

    def unwatch_rivals(self) -> None:
        """Stop watching for rivals."""
        if self._rivals is not None:
            self._rivals.close()
            self._rivals = None

    def announce(self) -> None:
        """Send one round of announcements; never waits. Raises: NetworkError."""
        link.announce(self._interface, self._addresses)

    def _add(self, valid_lft_s: int | None) -> None:
        for address in self._addresses:
            self._table.add(self._interface, address, valid_lft_s)

    def _remove(self) -> bool:
        """Try each, whatever becomes of the others; then raise what went wrong, if anything."""
        is_removed = False
        failure: NetworkError | None = None
        for address in self._addresses:
            try:
                is_removed |= self._table.remove(address)
            except NetworkError as error:
                failure = error
        if failure is not None:
            raise failure
        return is_removed

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _keep_priority(nice: int) -> None:
    """Give the thread the priority that the process had; a new thread may not inherit it."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    except OSError:
        return  # without the right to raise it the address still moves, only less promptly


def _parsed(addresses: tuple[str, ...]) -> tuple[Ip, ...]:
    if not addresses:
        raise ConfigError("There is no virtual IP to hold.", "Give at least one address.")
    try:
        return tuple(ipaddress.ip_address(a) for a in addresses)
    except ValueError as error:
        raise ConfigError(
            f"A virtual IP is not an IPv4 or IPv6 address: {error}.",
            "Write it without a prefix length, for example 10.10.10.16 or fd00::16.",
        ) from error
