"""ifupdown's /etc/network/interfaces: an interface's IPv4 stanza, replaced where it stands. Pure.

Source: interfaces(5). Continuation lines and foreign options of the stanza are kept.
"""

from collections.abc import Mapping

from openmse.setup.networkd import Wanted
from openmse.setup.world import INTERFACES

REPLACED = ("address", "netmask", "gateway", "broadcast", "network", "pointopoint")
DHCP_ONLY = ("hostname", "metric", "leasehours", "leasetime", "vendor", "client")
_STARTS = ("iface", "auto", "allow-", "mapping", "source", "no-auto-down", "no-scripts", "rename")


def file_of(interface: str, files: Mapping[str, str]) -> str:
    """The path of the file with the interface's IPv4 stanza; '' where none has one."""
    for path in sorted(files):
        if any(_is_stanza(line, interface) for line in files[path].splitlines()):
            return path
    return ""


def address_in(interface: str, text: str) -> tuple[str, str, str]:
    """Address, netmask and gateway of the interface's IPv4 stanza; '' where not set there."""
    import ipaddress

    _, body, _ = _split(text.splitlines(), interface)
    options = {words[0]: words[1] for line in body[1:] if len(words := line.split()) > 1}
    address, netmask = options.get("address", ""), options.get("netmask", "")
    try:
        mask = f"/{netmask}" if netmask and "/" not in address else ""
        found = ipaddress.IPv4Interface(f"{address}{mask}")
    except ValueError:
        return "", "", options.get("gateway", "")
    return str(found.ip), str(found.netmask), options.get("gateway", "")


def changed(wanted: Wanted, files: Mapping[str, str]) -> dict[str, str]:
    """The file to be written for one interface, by its path."""
    path = file_of(wanted.name, files) or INTERFACES
    text = files.get(path, "")
    return {path: stanza_text(wanted, text, is_automatic=_is_automatic(wanted.name, files))}


def stanza_text(wanted: Wanted, text: str, *, is_automatic: bool) -> str:
    """A file's text with the wanted stanza; the rest as it was."""
    before, body, after = _split(text.splitlines(), wanted.name)
    lines = _stanza(wanted, body)
    if not wanted.address and not body:
        return text
    if not body and before and before[-1].strip():
        lines = ["", *lines]
    if not is_automatic and wanted.address:
        place = 1 if lines[:1] == [""] else 0
        lines.insert(place, f"auto {wanted.name}")
    return "\n".join([*before, *lines, *after]).rstrip("\n") + "\n"


def _stanza(wanted: Wanted, body: list[str]) -> list[str]:
    options = [line for line in body[1:] if line.split()[:1] not in [[key] for key in REPLACED]]
    options = [line for line in options if line.split()[:1] not in [[key] for key in DHCP_ONLY]]
    if not wanted.address:
        return [f"iface {wanted.name} inet manual", *options]
    lines = [f"iface {wanted.name} inet static", f"    address {wanted.prefixed}"]
    if wanted.gateway:
        lines.append(f"    gateway {wanted.gateway}")
    return [*lines, *options]


def _split(lines: list[str], interface: str) -> tuple[list[str], list[str], list[str]]:
    """What comes before the interface's IPv4 stanza, the stanza, and what follows."""
    start = next((n for n, line in enumerate(lines) if _is_stanza(line, interface)), None)
    if start is None:
        return lines, [], []
    end = start + 1
    while end < len(lines) and not _begins(lines[end]):
        end += 1
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1  # empty lines and comments belong to what follows
    while end > start + 1 and lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return lines[:start], lines[start:end], lines[end:]


def _is_stanza(line: str, interface: str) -> bool:
    words = line.split()
    return words[:1] == ["iface"] and words[1:3] == [interface, "inet"]


def _begins(line: str) -> bool:
    words = line.split()
    return bool(words) and words[0].startswith(_STARTS)


def _is_automatic(interface: str, files: Mapping[str, str]) -> bool:
    for text in files.values():
        for line in text.splitlines():
            words = line.split()
            if (
                words[:1] in (["auto"], ["allow-hotplug"], ["allow-auto"])
                and interface in words[1:]
            ):
                return True
    return False
