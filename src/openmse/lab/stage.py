"""A laboratory under load, as an exercise sees it: who owns, what happens, how to wait for it.

Units: seconds for timeouts and durations; instants are CLOCK_BOOTTIME ns.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from openmse.errors import MseError
from openmse.lab.laboratory import Laboratory
from openmse.lab.ledger import now_ns
from openmse.lab.outage import Gap, longest_gap
from openmse.lab.programs import HEALTH_MONITOR
from openmse.lab.topology import Kind
from openmse.lab.workload import Workload, machine_of, wait_for
from openmse.node.control.client import ControlClient

SECOND = 1_000_000_000
ENOUGH = 50
"""Acknowledged writes after which service counts as resumed (a quarter of a second of them)."""
COMMAND_S = 60.0
CONTROL_SOCKET = "/run/openmse/control.sock"


class NotInTime(MseError):
    """Something that had to happen did not: the pair is wedged, or far too slow."""

    code = "MSE-LAB-010"


class ExerciseFailed(MseError):
    """A command of the product failed in the middle of an exercise."""

    code = "MSE-LAB-011"


class MachineView(Struct, frozen=True):
    """One node's own words; None where it does not answer."""

    state: str | None = None
    role: str | None = None
    sync: str | None = None


class _Register(Struct, frozen=True):
    term: int
    epoch: int
    owner: str
    mode: str


class _Told(Struct, frozen=True):
    """The part of a node's status that exercises need."""

    state: str | None = None
    role: str | None = None
    sync: str | None = None
    register: _Register | None = None


class Picture(Struct, frozen=True):
    """What the nodes said at one instant; ``owner`` and ``mode`` are the newest config's."""

    at: int
    owner: str
    mode: str
    epoch: int | None
    machines: dict[str, MachineView]


def ask(laboratory: Laboratory, node: str, within_s: float = 1.0) -> _Told | None:
    """A node's status over its control socket; None if it does not answer in time.

    The same words as ``mse lab status``, without starting programs: on two cores, those would
    disturb what is measured.
    """
    try:
        socket_path = laboratory.path_in(node, CONTROL_SOCKET)
        with ControlClient(socket_path) as client:
            told: _Told = client.call("status", type=_Told, within_s=within_s)
    except (MseError, OSError):
        return None
    return told


def look(laboratory: Laboratory, nodes: Sequence[str]) -> Picture:
    """Ask all nodes now."""
    at = now_ns()
    told = {node: ask(laboratory, node) for node in nodes}
    registers = [answer.register for answer in told.values() if answer and answer.register]
    newest = max(registers, key=lambda r: (r.term, r.epoch), default=None)
    machines = {
        node: MachineView(answer.state, answer.role, answer.sync) if answer else MachineView()
        for node, answer in told.items()
    }
    if newest is None:
        return Picture(at, "", "", None, machines)
    return Picture(at, newest.owner, newest.mode, newest.epoch, machines)


class Mark(Struct, frozen=True):
    """Something that was done to a machine, for the timeline. ``machine`` may be ''."""

    at: int
    machine: str
    text: str
    is_mend: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """What one exercise showed. Milliseconds and seconds as named, instants in ns."""

    event: str
    title: str
    begin: int
    end: int
    gap_ms: float
    gap_begin: int
    gap_end: int
    is_open: bool
    acknowledged: int
    unknown: int
    served_before: str
    served_after: str
    ordinary_gap_ms: float | None = None
    sync_after_s: float | None = None
    """From the repair (heal, power-on, thaw) until the pair was in SYNC."""
    control_gap_ms: float | None = None
    """The longest gap in as long a time before the event, where nothing was done."""


@dataclass(slots=True)
class Window:
    """The time an exercise looked at. ``end`` 0: until now."""

    begin: int
    end: int = 0
    sync_after_s: float | None = None


@dataclass(slots=True)
class Stage:
    """One laboratory, its load, and the group that is exercised."""

    laboratory: Laboratory
    load: Workload
    failover_wait_s: float
    group: str = "mse1"
    say: Callable[[str], None] = lambda _: None
    stopping: threading.Event = field(default_factory=threading.Event)
    marks: list[Mark] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    # ------------------------------------------------------------------ look

    def picture(self) -> Picture:
        """Ask the nodes now; remembered for the timeline."""
        found = look(self.laboratory, self.nodes)
        with self.lock:
            self.pictures.append(found)
        return found

    @property
    def nodes(self) -> list[str]:
        """The names of the machines that may own."""
        return [m.name for m in self.laboratory.machines.values() if m.kind is Kind.NODE]

    @property
    def witness(self) -> str:
        """The name of the witness machine, or ''."""
        found = (m.name for m in self.laboratory.machines.values() if m.kind is Kind.WITNESS)
        return next(found, "")

    def owner(self) -> str:
        """The machine that acknowledges writes now, as clients see it."""
        return self.load.last_served_by()

    def other(self, node: str) -> str:
        """The other one of the two nodes."""
        return next(name for name in self.nodes if name != node)

    @property
    def takeover_s(self) -> float:
        """A generous bound for a takeover; slower ones are wedged, not slow."""
        return 3 * self.failover_wait_s + 30

    # ------------------------------------------------------------------ act

    def mark(self, at: int, machine: str, text: str, *, is_mend: bool = False) -> int:
        """Note what was done for the timeline; returns ``at``."""
        self.marks.append(Mark(at, machine, text, is_mend))
        return at

    def command(self, machine: str, *argv: str, timeout_s: float = COMMAND_S) -> str:
        """Run one of the product's commands on a machine. Raises: ExerciseFailed."""
        done = self.laboratory.exec(machine, argv, timeout_s=timeout_s)
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip())[-600:]
            raise ExerciseFailed(
                f"'{' '.join(argv)}' on {machine} ended with {done.returncode}: {words}",
                "The events of both nodes say more: mse ha events.",
            )
        return done.stdout

    def health_monitor_pid(self, machine: str) -> int | None:
        """The health monitor's pid on a machine."""
        return self.laboratory.pids(machine)[HEALTH_MONITOR]

    # ------------------------------------------------------------------ wait

    def until(
        self, condition: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.05
    ) -> int:
        """Wait until ``condition`` holds; return the instant. Raises: NotInTime."""
        if not wait_for(condition, timeout_s, every_s):
            raise NotInTime(
                f"Waited {timeout_s:.0f} s in vain for {what}.",
                "Status, doctor, events and logs of both nodes are collected beside this result.",
            )
        return now_ns()

    def until_served(self, since: int, *, by: str = "", but: str = "") -> int:
        """Wait until clients are served (by one machine, or any but one)."""
        who = f"by {by}" if by else f"by another than {but}" if but else "again"
        return self.until(
            lambda: self.load.acknowledged_since(since, by, but) >= ENOUGH,
            self.takeover_s,
            f"writes to be acknowledged {who}",
        )

    def until_mode(self, mode: str, timeout_s: float) -> int:
        """Wait until the group is in ``mode`` and its owner answers."""
        return self.until(
            lambda: self.picture().mode == mode, timeout_s, f"the group to be {mode}", every_s=0.2
        )

    def until_sync(self, timeout_s: float = 120.0) -> int:
        """Wait until the pair is in SYNC and clients are served."""
        at = self.until(self._is_sync, timeout_s, "the pair to be in SYNC", every_s=0.2)
        self.until_served(at)
        return at

    def _is_sync(self) -> bool:
        found = self.picture()
        both = all(found.machines[node].sync == "sync" for node in self.nodes)
        wanted = "SYNC" if self.witness else "PINNED"  # protocol §8: a pair without witness
        return found.mode == wanted and both

    def watch(self, seconds: float) -> int:
        """Let time pass under load, because what is measured is that nothing happens."""
        self.stopping.wait(seconds)
        return now_ns()

    # ------------------------------------------------------------------ measure

    def measure(self, event: str, title: str, window: Window) -> Outcome:
        """What clients saw between the window's beginning and its end."""
        end = window.end or now_ns()
        written = self.load.writer.account()
        gap = longest_gap(written.acknowledged_at, window.begin, end)
        before = longest_gap(
            written.acknowledged_at, window.begin - (end - window.begin), window.begin - 1
        )
        inside = [a for a in written.acknowledged if window.begin <= a.at <= end]
        earlier = [a for a in written.acknowledged if a.at < window.begin]
        return Outcome(
            event=event,
            title=title,
            begin=window.begin,
            end=end,
            gap_ms=gap.ms,
            gap_begin=gap.begin,
            gap_end=gap.end,
            is_open=gap.is_open,
            acknowledged=len(inside),
            unknown=sum(window.begin <= e.at <= end for e in written.unknown),
            served_before=machine_of(earlier[-1].by) if earlier else "",
            served_after=machine_of(inside[-1].by) if inside else "",
            ordinary_gap_ms=self._ordinary_gap(window.begin, end),
            sync_after_s=window.sync_after_s,
            control_gap_ms=before.ms,
        )

    def _ordinary_gap(self, begin: int, end: int) -> float | None:
        found = self.load.ordinary.account().acknowledged_at
        gap: Gap | None = longest_gap(found, begin, end) if found else None
        return gap.ms if gap else None
