"""The summary between BEGIN and END: what was answered, in the layout of the guide's screen. Pure.

What was skipped is not shown, since it stays as it is.
"""

from collections.abc import Iterator

from openmse.setup.values import NONE, PRIMARY, SECONDARY, YES, View, chosen_zone

INDENT = "      "


def summary(view: View) -> str:
    """The lines between the two rules."""
    return "\n".join([*_guide(view), *_modern(view)])


def _guide(view: View) -> Iterator[str]:
    get = view.get
    if get("hostname.name"):
        yield f"Host name={get('hostname.name')}"
    if "domain.name" in view.answers:
        yield f"Domain={get('domain.name') or NONE}"
    if get("ha.role"):
        yield from _high_availability(view)
    for number, interface in enumerate(view.machine.interfaces):
        yield from _ethernet(view, interface.name, interface.title, has_gateway=number == 0)
    if get("dns.enable"):
        servers = f", DNS servers={get('dns.servers')}" if get("dns.servers") else ""
        yield f"Enable DNS={get('dns.enable')}{servers}"
    if chosen_zone(view):
        yield f"Time zone={chosen_zone(view)}"
    if get("ntp.enable"):
        servers = f", NTP servers={get('ntp.servers')}" if get("ntp.servers") else ""
        yield f"Enable NTP={get('ntp.enable')}{servers}"
        if get("ntp.clock") not in ("", "keep"):
            yield f"Date and time={get('ntp.clock')}"


def _high_availability(view: View) -> Iterator[str]:
    get = view.get
    number = {PRIMARY: "1", SECONDARY: "2"}[get("ha.role")]
    yield (
        f"{INDENT}Role={number}, Health Monitor Interface={get('ha.health_interface')}, "
        f"Direct connect interface={get('ha.direct_interface')}"
    )
    if get("ha.role") == SECONDARY:
        yield ""
        return
    yield (
        f"{INDENT}Virtual IP Address={get('ha.virtual_ip')}, "
        f"Virtual IP Netmask={get('ha.virtual_netmask')}"
    )
    if get("ha.recovery") == YES:
        yield f"{INDENT}Recovery mode=yes"


def _ethernet(view: View, name: str, title: str, *, has_gateway: bool) -> Iterator[str]:
    get = view.get
    if get(f"{name}.address"):
        address, netmask = get(f"{name}.address"), get(f"{name}.netmask")
        yield f"{title} IP address={address}, {title} network mask={netmask}"
    elif get(name) == "default":
        yield f"{title}=disabled"
    if has_gateway and get(f"{name}.gateway"):
        yield f"Default gateway={get(f'{name}.gateway')}"


def _modern(view: View) -> Iterator[str]:
    get = view.get
    if get("wait.seconds"):
        yield f"Failover wait={get('wait.seconds')} seconds"
    if get("witness.kind"):
        where = get("witness.address") or get("witness.endpoints")
        yield f"Witness={get('witness.kind')}" + (f", Witness address={where}" if where else "")
    if get("management.password"):
        yield "Management password=(as typed)"
    if get("pairing.password"):
        yield "Pairing password=(as typed)"
    if get("peer.address"):
        yield f"Secondary={get('peer.address')}"
