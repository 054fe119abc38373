"""What the doctor finds: pure functions over the status picture and a few local facts."""

from collections.abc import Iterator
from enum import StrEnum

from msgspec import UNSET, Struct

from openmse import __version__
from openmse.documents import document
from openmse.node.config import NodeConfig, WatchdogMode
from openmse.node.control.snapshot import Snapshot

LOW_BYTES = 1_000_000_000
LOW_SHARE = 0.10
EXPIRES_SOON_DAYS = 60
SLOW_LOOP_MS = 50.0
SLOW_TRIP_SHARE = 0.25
"""Of a heartbeat interval: beyond it the network eats into the lease."""


class Severity(StrEnum):
    """How pressing a finding is."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(Struct, frozen=True):
    """One thing that was found; ``code`` is stable snake_case."""

    severity: Severity
    code: str
    sentence: str
    action: str = ""


class LocalFacts(Struct, frozen=True, kw_only=True):
    """What the command line sees of the machine without the daemon."""

    config_fault: str = ""
    config: NodeConfig | None = None
    daemon_fault: str = ""
    daemon_hint: str = ""
    has_state_dir: bool = True
    register_fault: str = ""
    register_action: str = ""
    free_bytes: int
    total_bytes: int
    has_watchdog: bool = False
    is_agent_executable: bool = False
    interfaces: tuple[str, ...] = ()
    pair_fault: str = ""
    """Why the two machines should be no pair, by what they have told each other."""
    tails: tuple[str, ...] = ()
    """Directories with parts of a history that a rejoin removed, the oldest first."""


def findings(s: Snapshot | None, facts: LocalFacts) -> list[Finding]:
    """Everything found, the most pressing first; one reassuring line where nothing is wrong."""
    found = [*_local(facts)]
    if s is not None:
        found += [*_from_alarms(s), *_pair(s), *_health(s)]
    order = list(Severity)
    found.sort(key=lambda finding: order.index(finding.severity))
    if not any(finding.severity is not Severity.INFO for finding in found):
        found.append(Finding(Severity.INFO, "all_well", "Nothing was found that needs attention."))
    return found


def _local(facts: LocalFacts) -> Iterator[Finding]:
    if facts.daemon_fault:
        yield Finding(Severity.ERROR, "daemon_down", facts.daemon_fault, facts.daemon_hint)
    if facts.config_fault:
        yield Finding(
            Severity.ERROR,
            "config",
            facts.config_fault,
            "'mse config check' until it says that the file is in order, then restart the daemon.",
        )
    if not facts.has_state_dir:
        yield Finding(
            Severity.ERROR,
            "not_prepared",
            "The state directory does not exist: this machine has not been prepared.",
            "'mse node init'",
        )
    if facts.register_fault:
        yield Finding(
            Severity.ERROR, "register_damaged", facts.register_fault, facts.register_action
        )
    yield from _disk(facts)
    if facts.tails:
        yield Finding(
            Severity.INFO,
            "tail_kept",
            f"Of what a rejoin removed from this node's own history, {len(facts.tails)} part(s) "
            f"are kept aside, the newest in {facts.tails[-1]}.",
            "Its summary.json says what is in it; nothing is to be done unless writes are missed.",
        )
    if facts.pair_fault:
        yield Finding(
            Severity.WARNING,
            "machines_unequal",
            facts.pair_fault,
            "Replace the secondary by a machine that is at least as large "
            f"({document('platform')}).",
        )
    if facts.config is not None:
        yield from _devices(facts, facts.config)


def _disk(facts: LocalFacts) -> Iterator[Finding]:
    if facts.free_bytes < max(LOW_BYTES / 4, facts.total_bytes * LOW_SHARE / 4):
        severity = Severity.ERROR
    elif facts.free_bytes < min(LOW_BYTES, facts.total_bytes * LOW_SHARE):
        severity = Severity.WARNING
    else:
        return
    yield Finding(
        severity,
        "disk_low",
        f"The state directory's disk has {facts.free_bytes / 1e6:.0f} MB free of "
        f"{facts.total_bytes / 1e6:.0f} MB; when it is full the service moves to the other node.",
        "Make room, or enlarge the disk.",
    )


def _devices(facts: LocalFacts, config: NodeConfig) -> Iterator[Finding]:
    if config.watchdog.mode is WatchdogMode.REQUIRED and not facts.has_watchdog:
        yield Finding(
            Severity.ERROR,
            "no_watchdog",
            f"The watchdog is required, but {config.watchdog.device} does not exist.",
            "Load a driver ('modprobe softdog'), or set [watchdog] mode to auto.",
        )
    if config.fencing.agent and not facts.is_agent_executable:
        yield Finding(
            Severity.ERROR,
            "agent_unusable",
            f"The fencing agent {config.fencing.agent} is missing or not executable.",
            "Install it, and test it by hand against the other node.",
        )
    direct = config.node.direct_interface
    if facts.interfaces and direct and direct not in facts.interfaces:
        yield Finding(
            Severity.WARNING,
            "no_direct_interface",
            f"There is no network interface '{direct}' on this machine "
            f"({', '.join(facts.interfaces)}), so the direct connection cannot carry.",
            "Correct node.direct_interface in the configuration file, or remove both direct keys.",
        )
    if facts.interfaces and config.node.interface not in facts.interfaces:
        yield Finding(
            Severity.ERROR,
            "no_interface",
            f"There is no network interface '{config.node.interface}' on this machine "
            f"({', '.join(facts.interfaces)}).",
            "Correct node.interface in the configuration file.",
        )


def _from_alarms(s: Snapshot) -> Iterator[Finding]:
    for alarm in s.alarms:
        yield Finding(Severity(alarm.severity), alarm.kind, alarm.sentence, alarm.action)


def _pair(s: Snapshot) -> Iterator[Finding]:
    if s.register is None or len(s.register.voters) < 2:
        yield Finding(
            Severity.WARNING,
            "unpaired",
            "This node is not paired: nothing takes over when it fails.",
            "'mse ha pair' on the primary.",
        )
        return
    if s.witness is None:
        yield Finding(
            Severity.WARNING,
            "no_witness",
            "The pair has no witness: takeovers are manual, or need a fencing agent.",
            "'mse ha witness replace --address ADDRESS' gives it a third vote.",
        )
    if s.peer is not None and s.peer.software and s.peer.software != __version__:
        yield Finding(
            Severity.WARNING,
            "versions_differ",
            f"{s.peer.name} runs version {s.peer.software}, this node {__version__}.",
            "Finish the upgrade: one machine at a time.",
        )
    if s.sync != "sync" and s.why_not.sync:
        yield Finding(
            Severity.INFO, "why_not_in_step", f"Not in step yet: {s.why_not.sync}", "Usually: wait."
        )
    if s.role == "primary" and s.why_not.switchover and s.sync == "sync":
        yield Finding(
            Severity.WARNING,
            "no_switchover",
            f"A switchover would be refused now: {s.why_not.switchover}",
            "Mend that before it is needed.",
        )


def _health(s: Snapshot) -> Iterator[Finding]:
    beat_ms = min(max(s.lease.length_ms / 10, 100), 500)
    for party in (s.peer, s.witness):
        if party is not None and party.round_trip_ms > beat_ms * SLOW_TRIP_SHARE:
            yield Finding(
                Severity.WARNING,
                "slow_network",
                f"The round trip to {party.name} is {party.round_trip_ms:.1f} ms; heartbeats go "
                f"every {beat_ms:.0f} ms.",
                "Mend the network, or raise the failover wait ('mse ha settings').",
            )
    if s.loop_lag_ms > SLOW_LOOP_MS:
        yield Finding(
            Severity.WARNING,
            "slow_machine",
            f"The health monitor was kept waiting for {s.loop_lag_ms:.0f} ms by this machine.",
            "Find what takes the processor or the disk, or raise the failover wait.",
        )
    if s.events_dropped:
        yield Finding(
            Severity.WARNING,
            "events_dropped",
            f"{s.events_dropped} events could not be written to the event log.",
            "Check the disk of the state directory.",
        )
    left = s.certificate_days_left  # that one has ended is an alarm
    if left is not UNSET and 0 <= left < EXPIRES_SOON_DAYS:
        yield Finding(
            Severity.WARNING,
            "certificate_expires",
            f"A certificate of this node ends in {left} days and was not renewed.",
            "'mse ha events' says why (renewal_failed): mend that; it is tried again every hour. "
            "Check this machine's clock too.",
        )
