"""What is set on a machine now, and what was answered: the values every other part speaks in. Pure.

Answers are plain text by question id (``eth0.address``), already in their canonical form.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Answers = Mapping[str, str]
Gate = Literal["yes", "skip", "default"]

PRIMARY, SECONDARY = "primary", "secondary"
NONE = "none"
YES, NO, SKIP, DEFAULT = "yes", "no", "skip", "default"
INTERFACES_MAX = 4
"""Interfaces that the wizard asks about; the guide knows two."""


class Interface(Struct, frozen=True, kw_only=True):
    """One network interface as it is set now; '' where nothing is set. IPv4."""

    name: str
    address: str = ""
    netmask: str = ""

    @property
    def title(self) -> str:
        """As the summary writes it."""
        return self.name[:1].upper() + self.name[1:]


class Zone(Struct, frozen=True):
    """A time zone of the tz database: the country's code and name, and what it covers."""

    name: str
    country: str
    country_name: str
    comment: str = ""

    @property
    def continent(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]


class Machine(Struct, frozen=True, kw_only=True):
    """What is set now. Defaults are those of a machine on which nothing was ever set."""

    hostname: str = "mse"
    domain: str = ""
    role: str = PRIMARY
    health_interface: str = ""
    direct_interface: str = NONE
    virtual_ip: str = ""
    virtual_netmask: str = ""
    interfaces: tuple[Interface, ...] = (Interface(name="eth0"), Interface(name="eth1"))
    gateway: str = ""
    is_dns_enabled: bool = False
    dns_servers: tuple[str, ...] = ()
    zone: str = "UTC"
    zones: tuple[Zone, ...] = ()
    is_ntp_enabled: bool = False
    ntp_servers: tuple[str, ...] = ()
    failover_wait_s: str = "5"
    witness_kind: str = NONE
    witness_address: str = ""
    witness_endpoints: tuple[str, ...] = ()
    witness_files: tuple[str, str, str] = ("", "", "")
    """etcd: paths of the authority's, the client's certificate and its key."""
    is_configured: bool = False
    """The product's file is there."""
    group_node: str = ""
    """The node's name in the group that this machine founded or belongs to; '' if none."""
    peers: tuple[str, ...] = ()
    """The other nodes of its group: not empty on a paired node."""
    has_pairing_password: bool = False
    founded: Mapping[str, str] = {}
    """Facts of the group on the disk although the product's file is gone, by name (recovery)."""

    def interface(self, name: str) -> Interface | None:
        """The interface called ``name``."""
        return next((found for found in self.interfaces if found.name == name), None)


class View(Struct, frozen=True):
    """What a question may look at: the machine, and the answers given before it."""

    machine: Machine
    answers: Answers

    def get(self, question: str) -> str:
        """The answer to a question, '' where it was not asked."""
        return self.answers.get(question, "")

    @property
    def role(self) -> str:
        """The role that will be in force."""
        return self.get("ha.role") or self.machine.role

    @property
    def health_interface(self) -> str:
        """The interface of the health monitor that will be in force; '' on a bare machine."""
        first = self.machine.interfaces[0].name if self.machine.interfaces else ""
        return self.get("ha.health_interface") or self.machine.health_interface or first

    @property
    def direct_interface(self) -> str:
        """The direct connect interface that will be in force, or ``none``."""
        return self.get("ha.direct_interface") or self.machine.direct_interface

    @property
    def witness_kind(self) -> str:
        """The third vote that will be in force."""
        return self.get("witness.kind") or self.machine.witness_kind

    @property
    def zone(self) -> str:
        """The time zone that will be in force."""
        return chosen_zone(self) or self.machine.zone

    def address(self, interface: str) -> tuple[str, str]:
        """Address and netmask that an interface will have; '' where it will have none."""
        if self.get(interface) == DEFAULT and not self.get(f"{interface}.address"):
            return "", ""
        now = self.machine.interface(interface) or Interface(name=interface)
        return (
            self.get(f"{interface}.address") or now.address,
            self.get(f"{interface}.netmask") or now.netmask,
        )

    @property
    def gateway(self) -> str:
        """The default gateway that will be in force; '' or 'none' where there will be none."""
        first = self.machine.interfaces[0].name if self.machine.interfaces else ""
        return self.get(f"{first}.gateway") or self.machine.gateway

    @property
    def virtual(self) -> tuple[str, str]:
        """The virtual IP and its netmask that will be in force; '' on a secondary."""
        if self.role == SECONDARY:
            return "", ""
        return (
            self.get("ha.virtual_ip") or self.machine.virtual_ip,
            self.get("ha.virtual_netmask") or self.machine.virtual_netmask,
        )


def chosen_zone(view: View) -> str:
    """The time zone that the answers name, '' where none was chosen."""
    choice = view.get("time.zone")
    if not choice.startswith(CONTINENT):
        return choice
    region = view.get("time.region")
    if region:
        return region
    country = view.get("time.country")
    of_country = zones_of(view.machine.zones, choice, country)
    return of_country[0].name if len(of_country) == 1 else ""


CONTINENT = "continent:"


def zones_of(zones: tuple[Zone, ...], choice: str, country: str = "") -> tuple[Zone, ...]:
    """The zones of a continent (as answered: ``continent:Asia``), and of one country there."""
    continent = choice.removeprefix(CONTINENT)
    return tuple(
        zone for zone in zones if zone.continent == continent and country in ("", zone.country)
    )
