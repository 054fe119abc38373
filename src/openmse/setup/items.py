"""The guide's items, in its order and words. Pure data."""

from openmse.setup import direct, rules, texts
from openmse.setup.menus import (
    continents,
    countries,
    needs_country,
    needs_region,
    pick_continent,
    pick_country,
    pick_region,
    regions,
)
from openmse.setup.questions import Item, Question, item, says
from openmse.setup.values import NO, NONE, PRIMARY, SECONDARY, YES, Machine, View

DEFAULT_NTP = "2.debian.pool.ntp.org"


def guide_items(machine: Machine) -> tuple[Item, ...]:
    """Everything the guide asks, for the interfaces that this machine has."""
    names = [interface.name for interface in machine.interfaces]
    ethernet = [_ethernet(name, number) for number, name in enumerate(names)]
    return (
        _wizard(),
        _hostname(),
        _domain(),
        _high_availability(names),
        *ethernet,
        _dns(),
        _time_zone(),
        _ntp(),
    )


def _wizard() -> Item:
    return Item(
        gate=Question(
            id="wizard",
            intro=says(texts.WIZARD),
            prompt=says("Setup parameters via Setup Wizard (yes/no)"),
            rule=rules.yes_no,
            suggested=says(YES),
        )
    )


def _hostname() -> Item:
    return item(
        "hostname",
        says("hostname"),
        lambda view: f"{texts.WELCOME}\n\nCurrent hostname=[{view.machine.hostname}]",
        Question(
            id="hostname.name",
            key="hostname",
            intro=says(texts.HOST_NAME),
            prompt=says("Enter a host name"),
            suggested=lambda view: view.machine.hostname,
            fallback=says("mse"),
            rule=rules.host_name,
        ),
    )


def _domain() -> Item:
    return item(
        "domain",
        says("domain name"),
        lambda view: f"Current domain=[{view.machine.domain}]",
        Question(
            id="domain.name",
            key="domain",
            intro=says(texts.DOMAIN),
            prompt=says("Enter a domain name"),
            suggested=lambda view: view.machine.domain or NONE,
            fallback=says(NONE),
            rule=rules.domain_name,
            shown=lambda value: value or NONE,
        ),
    )


def _is_primary(view: View) -> bool:
    return view.role == PRIMARY


def _high_availability(names: list[str]) -> Item:
    listed = "/".join(names)
    first = names[0] if names else ""
    return item(
        "ha",
        says("High Availability"),
        lambda view: f"Current role=[{view.machine.role.capitalize()}]",
        Question(
            id="ha.role",
            key="ha.role",
            intro=says(texts.ROLE),
            prompt=says("Select role [1 for Primary, 2 for Secondary]"),
            suggested=lambda view: view.machine.role,
            shown=lambda value: {PRIMARY: "1", SECONDARY: "2"}.get(value, value),
            fallback=says(PRIMARY),
            rule=rules.role,
        ),
        Question(
            id="ha.health_interface",
            key="ha.health_monitor_interface",
            intro=says(texts.HEALTH_INTERFACE),
            prompt=says(f"Select Health Monitor Interface [{listed}]"),
            suggested=lambda view: view.machine.health_interface or first,
            fallback=says(first),
            rule=rules.one_of(names, "health monitor interface"),
        ),
        Question(
            id="ha.direct_interface",
            key="ha.direct_connect_interface",
            intro=lambda view: "\n\n".join(
                filter(None, (texts.DIRECT_INTERFACE, direct.told(view)))
            ),
            prompt=says(f"Select direct connect interface [{listed}/none]"),
            suggested=direct.suggested,
            fallback=lambda view: direct.suggested(view) if direct.told(view) else NONE,
            rule=rules.direct_interface(names),
        ),
        *_virtual_ip(),
    )


def _virtual_ip() -> tuple[Question, ...]:
    return (
        Question(
            id="ha.virtual_ip",
            key="ha.virtual_ip",
            intro=says(texts.VIRTUAL_IP),
            prompt=says("Enter Virtual IP address"),
            suggested=lambda view: view.machine.virtual_ip,
            rule=rules.address,
            when=_is_primary,
        ),
        Question(
            id="ha.virtual_netmask",
            key="ha.virtual_netmask",
            intro=lambda view: (
                f"Enter the network mask for IP address {view.get('ha.virtual_ip')}."
            ),
            prompt=says("Enter network mask"),
            suggested=_virtual_netmask,
            fallback=_virtual_netmask,
            rule=rules.netmask_for("ha.virtual_ip"),
            when=_is_primary,
        ),
        Question(
            id="ha.recovery",
            key="ha.recovery",
            key_kind="flag",
            intro=says(texts.RECOVERY),
            prompt=says("Do you wish to start this MSE in HA recovery mode?: (yes/no)"),
            fallback=says(NO),
            rule=rules.yes_no,
            when=_is_primary,
        ),
    )


def _virtual_netmask(view: View) -> str:
    own = view.machine.interface(view.health_interface)
    return view.machine.virtual_netmask or (own.netmask if own is not None else "")


def _ethernet(name: str, number: int) -> Item:
    ordinal = texts.ORDINALS[number]

    def now(view: View) -> str:
        found = view.machine.interface(name)
        assert found is not None
        if not found.address and number:
            return f"The {ordinal} ethernet interface is currently disabled for this machine."
        lines = [
            f"Current IP address=[{found.address}]",
            f"Current {name} netmask=[{found.netmask}]",
        ]
        if not number:
            lines.append(f"Current gateway address=[{view.machine.gateway}]")
        return "\n".join(lines)

    questions = [
        Question(
            id=f"{name}.address",
            key=f"interface.{name}.address",
            intro=says(f"Enter an IP address for {ordinal} ethernet interface of this machine."),
            prompt=says(f"Enter {name} IP address"),
            suggested=lambda view: view.address(name)[0] or direct.suggested_address(view, name),
            rule=rules.own_address,
            when=lambda view: not _is_switched_off(view, name, number),
        ),
        Question(
            id=f"{name}.netmask",
            key=f"interface.{name}.netmask",
            intro=lambda view: (
                f"Enter the network mask for IP address {view.get(f'{name}.address')}."
            ),
            prompt=says("Enter network mask"),
            suggested=lambda view: view.address(name)[1] or direct.suggested_netmask(view, name),
            rule=rules.own_netmask(name),
            when=lambda view: not _is_switched_off(view, name, number),
        ),
    ]
    if not number:
        questions.append(_gateway(name))
    return item(name, says(f"{name} interface parameters"), now, *questions)


def _is_switched_off(view: View, name: str, number: int) -> bool:
    """(U)se default of any but the first interface, and of one that is needed, is: disabled."""
    is_needed = number == 0 or name in (view.health_interface, view.direct_interface)
    return view.get(name) == "default" and not is_needed


def _gateway(name: str) -> Question:
    return Question(
        id=f"{name}.gateway",
        key=f"interface.{name}.gateway",
        intro=says(texts.GATEWAY),
        prompt=says("Enter default gateway address"),
        suggested=lambda view: view.machine.gateway,
        rule=rules.gateway(name),
    )


def _dns() -> Item:
    def now(view: View) -> str:
        word = "enabled" if view.machine.is_dns_enabled else "disabled"
        servers = " ".join(view.machine.dns_servers)
        line = f"Current DNS servers=[{servers}]" if servers else "No DNS servers currently defined"
        return f"{texts.DNS_TITLE}\n\nDNS is currently {word}.\n{line}"

    return item(
        "dns",
        says("DNS related parameters"),
        now,
        Question(
            id="dns.enable",
            key="dns.enabled",
            key_kind="flag",
            intro=says(texts.DNS_ENABLE),
            prompt=says("Enable DNS (yes/no)"),
            suggested=lambda view: YES if view.machine.is_dns_enabled else NO,
            fallback=says(NO),
            rule=rules.yes_no,
        ),
        Question(
            id="dns.servers",
            key="dns.servers",
            key_kind="list",
            intro=says(texts.DNS_SERVERS),
            prompt=says("Enter DNS server addresses"),
            suggested=lambda view: " ".join(view.machine.dns_servers),
            rule=rules.dns_servers,
            when=lambda view: view.get("dns.enable") == YES,
        ),
    )


def _time_zone() -> Item:
    return item(
        "time",
        says("timezone"),
        lambda view: f"Current timezone=[{view.machine.zone}]",
        Question(
            id="time.zone",
            key="time.zone",
            intro=lambda view: f"{texts.TIME_ZONE}\n{continents(view)}",
            prompt=says("#? "),
            is_plain=True,
            fallback=says("UTC"),
            rule=pick_continent,
        ),
        Question(
            id="time.country",
            intro=lambda view: f"{texts.COUNTRY}\n{countries(view)}",
            prompt=says("#? "),
            is_plain=True,
            rule=pick_country,
            when=needs_country,
        ),
        Question(
            id="time.region",
            intro=lambda view: f"{texts.REGION}\n{regions(view)}",
            prompt=says("#? "),
            is_plain=True,
            rule=pick_region,
            when=needs_region,
        ),
    )


def _ntp() -> Item:
    def now(view: View) -> str:
        word = "enabled" if view.machine.is_ntp_enabled else "disabled"
        servers = " ".join(view.machine.ntp_servers)
        line = f"\nCurrent NTP servers=[{servers}]" if servers else ""
        return f"{texts.NTP_TITLE}\n\nNTP is currently {word}.{line}"

    return item(
        "ntp",
        says("NTP related parameters"),
        now,
        Question(
            id="ntp.enable",
            key="time.ntp",
            key_kind="flag",
            intro=says(texts.NTP_ENABLE),
            prompt=says("Enable NTP (yes/no)"),
            suggested=lambda view: YES if view.machine.is_ntp_enabled else NO,
            fallback=says(YES),
            rule=rules.yes_no,
        ),
        Question(
            id="ntp.servers",
            key="time.ntp_servers",
            key_kind="list",
            prompt=says("Enter NTP server name or address"),
            suggested=lambda view: " ".join(view.machine.ntp_servers),
            fallback=says(DEFAULT_NTP),
            rule=rules.ntp_servers,
            when=lambda view: view.get("ntp.enable") == YES,
        ),
        Question(
            id="ntp.clock",
            key="time.clock",
            intro=says(texts.CLOCK),
            prompt=says("Enter the current date and time"),
            suggested=says("keep"),
            fallback=says("keep"),
            rule=rules.clock,
            when=lambda view: view.get("ntp.enable") == NO,
        ),
    )
