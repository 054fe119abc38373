"""systemd-networkd's .network files: which one an interface uses, and its text afterwards. Pure.

Only what concerns IPv4 addresses and the default route is replaced; the rest of a file stays.
Source: systemd.network(5).
"""

import ipaddress
from collections.abc import Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

DIRECTORY = "/etc/systemd/network"
KEEP = "KeepConfiguration=static"
"""networkd must not drop the virtual IP, which it does not know, when it is restarted."""
HEAD = "# Written by 'mse setup'; it changes only IPv4 addresses, the gateway and DHCP here."


class Wanted(Struct, frozen=True, kw_only=True):
    """One interface; ``address`` '' switches it off, ``gateway`` '' means none here."""

    name: str
    address: str = ""
    netmask: str = ""
    gateway: str = ""

    @property
    def prefixed(self) -> str:
        """The address with its prefix length."""
        return ipaddress.IPv4Interface(f"{self.address}/{self.netmask}").with_prefixlen


class Section(Struct):
    """A section of a file: its header line and the lines below it."""

    header: str
    lines: list[str]

    @property
    def name(self) -> str:
        """'' before the first header."""
        return self.header.strip().strip("[]")

    def values(self, key: str) -> list[str]:
        """Every value of a key."""
        return [value for found, value in map(_pair, self.lines) if found == key]


def own_path(interface: str) -> str:
    """The file that setup writes where there is none to edit; it comes before all usual names."""
    return f"{DIRECTORY}/05-openmse-{interface}.network"


def sections(text: str) -> list[Section]:
    """A file in its sections."""
    found = [Section("", [])]
    for line in text.splitlines():
        if line.strip().startswith("[") and line.strip().endswith("]"):
            found.append(Section(line, []))
        else:
            found[-1].lines.append(line)
    return found


def file_of(interface: str, files: Mapping[str, str]) -> str:
    """The path of the file that networkd uses for an interface; '' where none matches.

    The first by file name, whatever its directory; /etc hides files of the same name elsewhere.
    """
    by_name: dict[str, str] = {}
    for path in files:
        name = path.rpartition("/")[2]
        if name not in by_name or path.startswith(f"{DIRECTORY}/"):
            by_name[name] = path
    for name in sorted(by_name):
        patterns = _patterns(files[by_name[name]])
        if patterns is not None and any(fnmatchcase(interface, pattern) for pattern in patterns):
            return by_name[name]
    return ""


def _patterns(text: str) -> list[str] | None:
    """The names that a file matches; None where it also asks for something else."""
    for section in sections(text):
        if section.name == "Match":
            pairs = [_pair(line) for line in section.lines]
            if any(key not in ("", "Name") for key, _ in pairs):
                return None
            return " ".join(section.values("Name")).split()
    return None


def address_in(text: str) -> tuple[str, str, str]:
    """The first IPv4 address, its netmask and the gateway that a file sets; '' where none."""
    address = netmask = gateway = ""
    for section in sections(text):
        if section.name in ("Network", "Address") and not address:
            for value in section.values("Address"):
                found = _ipv4(value)
                if found is not None and not address:
                    address, netmask = str(found.ip), str(found.netmask)
        is_gateway = section.name == "Network" or (section.name == "Route" and _is_default(section))
        if is_gateway and not gateway:
            gateway = next((value for value in section.values("Gateway") if _ipv4(value)), "")
    return address, netmask, gateway


def changed(wanted: Wanted, files: Mapping[str, str]) -> dict[str, str]:
    """The file to be written for one interface, by its path."""
    path = file_of(wanted.name, files)
    text = files.get(path, "")
    if not path.startswith(f"{DIRECTORY}/") or _patterns(text) != [wanted.name]:
        path = own_path(wanted.name)  # one that is ours alone, with the rest of the other's text
    return {path: network_text(wanted, text)}


def network_text(wanted: Wanted, text: str) -> str:
    """A file's text with the wanted IPv4 settings, the rest as it was."""
    parts = [part for part in sections(text) if not _is_replaced(part)]
    for name in ("Match", "Network"):
        if not any(part.name == name for part in parts):
            parts.append(Section(f"[{name}]", []))
    head = parts[0]
    if HEAD not in head.lines and not text:
        head.lines = [HEAD]
    for part in parts:
        if part.name == "Match":
            part.lines = [f"Name={wanted.name}", *_blank_after(part.lines)]
    networks = [part for part in parts if part.name == "Network"]
    for part in networks:
        part.lines = [line for line in part.lines if _stays(line)]
    networks[0].lines = [*_network_lines(wanted, text), *networks[0].lines]
    return "\n".join(_joined(parts)).strip("\n") + "\n"


def _network_lines(wanted: Wanted, text: str) -> list[str]:
    lines = [f"DHCP={_dhcp(text)}"]
    if wanted.address:
        lines += [f"Address={wanted.prefixed}", KEEP]
    if wanted.gateway:
        lines.append(f"Gateway={wanted.gateway}")
    return lines


def _dhcp(text: str) -> str:
    """IPv6 by DHCP stays where it was wanted."""
    words = [
        value for part in sections(text) if part.name == "Network" for value in part.values("DHCP")
    ]
    return "ipv6" if words and words[-1] in ("yes", "true", "both", "ipv6") else "no"


def _joined(parts: list[Section]) -> list[str]:
    lines: list[str] = []
    for part in parts:
        body = "\n".join(part.lines).strip("\n")
        if part.header:
            lines += [*([""] if lines else []), part.header.strip()]
        if body:
            lines.append(body)
    return lines


def _blank_after(lines: list[str]) -> list[str]:
    return [line for line in lines if _pair(line)[0] == "" and line.strip()]


def _stays(line: str) -> bool:
    key, value = _pair(line)
    if key in ("Address", "Gateway"):
        return _ipv4(value) is None
    return key not in ("DHCP", "KeepConfiguration")


def _is_replaced(section: Section) -> bool:
    if section.name == "Address":
        return any(_ipv4(value) is not None for value in section.values("Address"))
    if section.name == "Route":
        gateways = [*section.values("Gateway"), *section.values("Destination")]
        is_four = all(_ipv4(value) is not None for value in gateways) and bool(gateways)
        return is_four and _is_default(section)
    return False


def _is_default(section: Section) -> bool:
    return all(value in ("0.0.0.0/0", "") for value in section.values("Destination"))


def _ipv4(text: str) -> ipaddress.IPv4Interface | None:
    try:
        return ipaddress.IPv4Interface(text.strip())
    except ValueError:
        return None


def _pair(line: str) -> tuple[str, str]:
    key, mark, value = line.partition("=")
    if not mark or key.strip().startswith(("#", ";")):
        return "", ""
    return key.strip(), value.strip()
