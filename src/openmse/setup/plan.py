"""What would change on a machine: files by their text, and the acts that are no file. Pure."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.node.config_load import parse
from openmse.node.group import GroupInfo
from openmse.setup import clocks, direct, hosts, product, recovery, resolver
from openmse.setup.clocks import Keeper
from openmse.setup.networks import NETWORKD_UNIT, Form, form_of, network_files, wanted_interfaces
from openmse.setup.values import NO, NONE, PRIMARY, SECONDARY, YES, View, chosen_zone
from openmse.setup.world import (
    HOSTNAME,
    HOSTS,
    RESOLVED,
    Entry,
    Link,
    World,
)

SERVICE_UNITS = ("openmse.service", "openmse-admin.service")


class Change(Struct, frozen=True, kw_only=True):
    """One file: what is there and what shall be; None where there is, or shall be, none."""

    path: str
    before: Entry | None
    after: Entry | None
    mode: int = 0o644
    """Of a new file; one that is replaced keeps its own."""


class Enable(Struct, frozen=True):
    """A systemd unit shall be started at boot."""

    unit: str


class Disable(Struct, frozen=True):
    """A systemd unit shall not be started at boot, and not run."""

    unit: str


class Rename(Struct, frozen=True):
    """The running kernel's host name."""

    name: str


class Prepare(Struct, frozen=True):
    """The product's directories."""


class SetPassword(Struct, frozen=True):
    """A password: ``whose`` is management or pairing. Never shows it."""

    whose: str
    secret: str

    def __repr__(self) -> str:
        return f"SetPassword({self.whose!r})"


class SetClock(Struct, frozen=True):
    """The clock, as the date and time of a zone."""

    text: str
    zone: str


Act = Enable | Disable | Rename | Prepare | SetPassword | SetClock


class Step(Struct, frozen=True):
    """One applier: its files first, then its acts. ``name`` is told when it begins."""

    name: str
    changes: tuple[Change, ...] = ()
    acts: tuple[Act, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """Everything, in the order in which it is applied; empty steps are left out."""

    steps: tuple[Step, ...]
    needs_reboot: bool = False
    notes: tuple[str, ...] = ()
    rereads: tuple[str, ...] = ()
    """Units that, where they run, must read their files anew once all is applied."""

    @property
    def changes(self) -> list[Change]:
        """Every file that would change."""
        return [change for step in self.steps for change in step.changes]


class Source(Struct, frozen=True, kw_only=True):
    """What a plan is made from."""

    view: View
    world: World
    config: str
    group: GroupInfo | None = None
    group_path: str = ""
    register_path: str = ""

    @property
    def left_behind(self) -> tuple[str, ...]:
        """The files of the group of one that a primary leaves when it becomes a secondary."""
        view = self.view
        is_left = view.role == SECONDARY and view.machine.role == PRIMARY
        if self.group is None or view.machine.peers or not is_left:
            return ()
        return (self.group_path, self.register_path, f"{self.register_path}.previous")


def plan_of(source: Source) -> Plan:
    """The steps that lead from the world to the answers. Raises ConfigError."""
    made = [
        _hostname(source),
        _high_availability(source),
        _network(source),
        _dns(source),
        _zone(source),
        _ntp(source),
        *_last(source.view),
    ]
    steps = tuple(step for step in made if step.changes or step.acts)
    needs_reboot = any(step.name == "network" and step.changes for step in steps)
    return Plan(
        steps=steps,
        needs_reboot=needs_reboot,
        notes=tuple(_notes(source)),
        rereads=tuple(unit for unit, paths in _READERS.items() if _is_changed(steps, paths)),
    )


_READERS: dict[str, tuple[str, ...]] = {
    **{unit.value: paths for unit, paths in clocks.READ_BY.items()},
    "systemd-resolved.service": (RESOLVED,),
}


def _is_changed(steps: tuple[Step, ...], paths: tuple[str, ...]) -> bool:
    return any(change.path in paths for step in steps for change in step.changes)


def review(source: Source) -> list[str]:
    """What is wrong with all answers together, as sentences; empty if nothing."""
    view = source.view
    faults = []
    if wanted_interfaces(view) and form_of(source.world) is Form.MANAGER:
        faults.append(
            "The addresses of this machine are set by NetworkManager, whose files setup does not "
            "write. Skip the interfaces and set them with nmcli, or change to systemd-networkd."
        )
    faults += [*_twice(view), *recovery.faults(view), *direct.faults(view)]
    if product.is_wanted(view):
        if not view.address(view.health_interface)[0]:
            faults.append(
                f"The health monitor interface {view.health_interface} has no IP address. "
                "Configure its interface parameters."
            )
        elif not any(direct.faults(view)):
            text = product.product_text(view, source.world.text(source.config))
            faults += product.faults_in(text, Path(source.config))
    return list(dict.fromkeys(faults))


def _twice(view: View) -> Iterator[str]:
    seen: dict[str, str] = {}
    for interface in view.machine.interfaces:
        address = view.address(interface.name)[0]
        if address and address in seen:
            yield f"{seen[address]} and {interface.name} have the same IP address {address}."
        seen[address] = interface.name


def with_file(plan: Plan, name: str, change: Change) -> Plan:
    """The plan with one more file, before the steps that cannot be taken back exactly."""
    if change.before == change.after:
        return plan
    first = next((n for n, s in enumerate(plan.steps) if s.name in _LAST), len(plan.steps))
    steps = (*plan.steps[:first], Step(name, (change,)), *plan.steps[first:])
    return replace(plan, steps=steps)


_LAST = ("pairing password", "management password", "date and time")


# -- steps ------------------------------------------------------------------------------------


def _changes(world: World, files: dict[str, Entry | None]) -> tuple[Change, ...]:
    found = [
        Change(path=path, before=world.files.get(path), after=after)
        for path, after in files.items()
    ]
    return tuple(change for change in found if change.before != change.after)


def _hostname(source: Source) -> Step:
    view, world = source.view, source.world
    new = view.get("hostname.name")
    has_domain = "domain.name" in view.answers
    address = view.address(view.health_interface)[0]
    has_address = bool(view.get(f"{view.health_interface}.address"))
    if not (new or has_domain or has_address):
        return Step("hostname")
    old = view.machine.hostname
    name = new or old
    domain = view.get("domain.name") if has_domain else view.machine.domain
    names = (f"{name}.{domain}", name) if domain else (name,)
    files: dict[str, Entry | None] = {
        HOSTS: hosts.hosts_text(world.text(HOSTS) or "", old, names, address)
    }
    if new:
        files[HOSTNAME] = hosts.hostname_text(new)
    acts = (Rename(name),) if new and new != old else ()
    return Step("hostname", _changes(world, files), acts)


def _high_availability(source: Source) -> Step:
    view, world = source.view, source.world
    if not product.is_wanted(view):
        return Step("High Availability")
    text = product.product_text(view, world.text(source.config))
    files: dict[str, Entry | None] = {source.config: text}
    files |= _group_facts(source, text)
    files |= dict.fromkeys(source.left_behind)
    acts: tuple[Act, ...] = (Prepare(), *(Enable(unit) for unit in SERVICE_UNITS))
    return Step("High Availability", _changes(world, files), acts)


def _group_facts(source: Source, text: str) -> dict[str, Entry | None]:
    """The facts of a group of one follow the new addresses; the daemon renews certificates."""
    group, world = source.group, source.world
    if group is None or len(group.nodes) > 1 or source.view.role == SECONDARY:
        return {}
    config = parse(text, Path(source.config))
    own = replace(group.nodes[0], address=config.node.host, address6=config.node.host6)
    virtual_ips = config.group.virtual_ips or group.virtual_ips
    new = replace(group, nodes=(own,), virtual_ips=virtual_ips)
    if new == group:
        return {}
    new = replace(new, revision=group.revision + 1)
    assert world.text(source.group_path) is not None
    data = msgspec.json.format(msgspec.json.encode(new), indent=2)
    return {source.group_path: data.decode() + "\n"}


def _network(source: Source) -> Step:
    files: dict[str, Entry | None] = dict(network_files(source.view, source.world))
    changes = _changes(source.world, files)
    uses_networkd = form_of(source.world) is Form.NETWORKD
    acts = (Enable(NETWORKD_UNIT),) if changes and uses_networkd else ()
    return Step("network", changes, acts)


def _dns(source: Source) -> Step:
    view, world = source.view, source.world
    enable, has_domain = view.get("dns.enable"), "domain.name" in view.answers
    if not enable and not has_domain:
        return Step("DNS")
    servers = view.machine.dns_servers
    if enable:
        servers = tuple(view.get("dns.servers").split()) if enable == YES else ()
    domain = view.get("domain.name") if has_domain else view.machine.domain
    if not enable and not servers and not domain and not view.machine.domain:
        return Step("DNS")
    path, text = resolver.resolver_file(world, servers, domain)
    return Step("DNS", _changes(world, {path: text}))


def _zone(source: Source) -> Step:
    zone = chosen_zone(source.view)
    files: dict[str, Entry | None] = dict(clocks.zone_files(zone)) if zone else {}
    return Step("timezone", _changes(source.world, files))


def _ntp(source: Source) -> Step:
    view, enable = source.view, source.view.get("ntp.enable")
    if not enable:
        return Step("NTP")
    servers = tuple(view.get("ntp.servers").split()) if enable == YES else ()
    unit = clocks.keeper_of(source.world).value
    act = Enable(unit) if servers else Disable(unit)
    return Step("NTP", _changes(source.world, clocks.ntp_files(source.world, servers)), (act,))


def _last(view: View) -> Iterator[Step]:
    """The management password, whose old hash only its own command knows, is the very last."""
    if view.get("pairing.password"):
        secret = SetPassword("pairing", view.get("pairing.password"))
        yield Step("pairing password", acts=(Prepare(), secret))
    if view.get("ntp.clock") not in ("", "keep"):
        yield Step("date and time", acts=(SetClock(view.get("ntp.clock"), view.zone),))
    if view.get("management.password"):
        secret = SetPassword("management", view.get("management.password"))
        yield Step("management password", acts=(secret,))


def _notes(source: Source) -> Iterator[str]:
    view = source.view
    name, wanted = view.machine.group_node, view.get("hostname.name")
    if name and wanted and wanted != name and not source.left_behind:
        yield (
            f"The node keeps the name {name} in its group, which its register knows; only the "
            f"machine is called {wanted}."
        )
    if view.get("ha.direct_interface") not in ("", NONE):
        yield (
            f"The direct connection on {view.get('ha.direct_interface')} is used once the other "
            "server has its end set too, with another address of the same network."
        )
    if direct.note(view):
        yield direct.note(view)
    if view.machine.group_node and view.get("wait.seconds"):
        yield (
            "This primary has founded its group already: the failover wait in force is changed "
            f"with 'mse ha settings --failover-wait {view.get('wait.seconds')}'."
        )
    address6 = view.machine.founded.get("address6", "")
    if address6 and "/" not in address6:
        yield (
            f"The pair knows this machine also by {address6}: add it with "
            "its prefix as address6 in [node] of the configuration file."
        )
    if not product.is_wanted(view) and not view.machine.is_configured:
        yield "High Availability is not configured yet, so the service cannot start."
    if view.role == PRIMARY and view.get("peer.address"):
        yield (
            "When both servers run, pair them on this one: "
            f"'mse ha pair --peer {view.get('peer.address')}'."
        )
    if view.get("ha.role") == SECONDARY and not view.get("pairing.password"):
        if not view.machine.has_pairing_password:
            yield "Before it can be paired this secondary needs a pairing password."
    if view.get("ntp.enable") == YES and clocks.keeper_of(source.world) is Keeper.TIMESYNCD:
        yield (
            "systemd-timesyncd keeps the clock: it follows one server at a time and compares it "
            "with no other. For clocks that agree better 'apt-get install chrony', which takes its "
            "place, on both servers, and run setup again."
        )
    if view.get("ntp.enable") == NO:
        yield "Without NTP the clocks of the two servers drift apart; compare them now and then."


# -- showing ----------------------------------------------------------------------------------


def as_diff(plan: Plan) -> str:
    """Every file that would change, as a unified diff, and every act as a line."""
    parts = []
    for step in plan.steps:
        parts += [_diff(change) for change in step.changes]
        parts += [f"# would {act_text(act)}\n" for act in step.acts]
    return "".join(parts) or "# Nothing would change.\n"


def _diff(change: Change) -> str:
    before, after = _lines(change.before), _lines(change.after)
    first = "/dev/null" if change.before is None else change.path
    second = "/dev/null" if change.after is None else change.path
    return "".join(difflib.unified_diff(before, after, first, second))


def _lines(entry: Entry | None) -> list[str]:
    if entry is None:
        return []
    if isinstance(entry, Link):
        return [f"-> {entry.target}\n"]
    if "\0" in entry:
        return ["(not a text)\n"]
    lines = entry.encode(errors="surrogateescape").decode(errors="replace").splitlines()
    return [f"{line}\n" for line in lines]


def act_text(act: Act) -> str:
    """An act in words, without any secret."""
    match act:
        case Enable(unit):
            return f"have {unit} started at boot"
        case Disable(unit):
            return f"stop {unit} and not have it started at boot"
        case Rename(name):
            return f"tell the kernel the host name {name}"
        case Prepare():
            return "make the directories of the product where they are missing"
        case SetPassword(whose):
            return f"set the {whose} password"
        case SetClock(text, zone):
            return f"set the clock to {text} ({zone})"
        case _:
            assert_never(act)
