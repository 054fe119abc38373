"""The rules that answers must keep, each with its sentence. Pure: text in, canonical text out.

Every rule raises BadAnswer with the rule itself, so that whoever is asked knows what to type.
"""

import datetime
import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from openmse.ha.timing import timing_faults
from openmse.ha.values import SECOND
from openmse.pki.password import MAX_LENGTH, MIN_LENGTH
from openmse.setup.errors import BadAnswer
from openmse.setup.values import NONE, PRIMARY, SECONDARY, View

Rule = Callable[[str, View], str]

_LABEL = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_DOMAIN_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_WORDS = re.compile(r"[\s,]+")
SERVERS_MAX = 4
DNS_MAX = 3
"""What the resolver of the C library reads (resolv.conf(5))."""


def host_name(text: str, view: View) -> str:
    """A host name as the guide wants it."""
    if not _LABEL.fullmatch(text):
        raise BadAnswer(
            "The host name must start with a letter, end with a letter or number, and contain "
            "only letters, numbers, and dashes (1 to 63 characters)."
        )
    if text.lower() == "localhost":
        raise BadAnswer("The host name must be a unique name; 'localhost' is every machine's.")
    return text


def domain_name(text: str, view: View) -> str:
    """A domain, or none."""
    if text.lower() == NONE:
        return ""
    is_number = text.rpartition(".")[2].isdigit()
    if not is_domain(text) or is_number:
        raise BadAnswer(
            "The domain name must consist of labels of letters, numbers, and dashes, separated by "
            "dots, such as example.net (253 characters at most); 'none' stands for no domain."
        )
    return text.rstrip(".").lower()


def is_domain(text: str) -> bool:
    """Whether ``text`` can be a name in the domain name system."""
    name = text.rstrip(".")
    return 1 <= len(name) <= 253 and all(_DOMAIN_LABEL.fullmatch(part) for part in name.split("."))


def role(text: str, view: View) -> str:
    """1 or 2."""
    found = {"1": PRIMARY, "2": SECONDARY, PRIMARY: PRIMARY, SECONDARY: SECONDARY}.get(text.lower())
    if found is None:
        raise BadAnswer("The role must be 1 for Primary or 2 for Secondary.")
    return found


def yes_no(text: str, view: View) -> str:
    """yes or no."""
    found = {"yes": "yes", "y": "yes", "no": "no", "n": "no"}.get(text.lower())
    if found is None:
        raise BadAnswer('The answer must be "yes" or "no".')
    return found


def gate(text: str, view: View) -> str:
    """Yes, Skip or Use default."""
    words = {"yes": "yes", "y": "yes", "skip": "skip", "s": "skip"}
    words |= {"use default": "default", "default": "default", "u": "default", "use": "default"}
    found = words.get(text.lower())
    if found is None:
        raise BadAnswer("The answer must be Y (yes), S (skip) or U (use default).")
    return found


def yes_or_skip(text: str, view: View) -> str:
    """Yes or Skip, where there is no default."""
    found = {"yes": "yes", "y": "yes", "skip": "skip", "s": "skip", "no": "skip"}.get(text.lower())
    if found is None:
        raise BadAnswer("The answer must be Y (yes) or S (skip); there is no default.")
    return found


def one_of(names: Sequence[str], what: str) -> Rule:
    """One of the names that the prompt shows."""

    def rule(text: str, view: View) -> str:
        if not names:
            raise BadAnswer(f"This machine has nothing that could be the {what}; ^ goes back.")
        if text not in names:
            raise BadAnswer(f"The {what} must be one of: {', '.join(names)}.")
        return text

    return rule


def direct_interface(names: Sequence[str]) -> Rule:
    """An interface that is not the health monitor's, or none."""
    known = one_of((*names, NONE), "direct connect interface")

    def rule(text: str, view: View) -> str:
        found = known(text.lower() if text.lower() == NONE else text, view)
        if found == view.health_interface:
            raise BadAnswer(
                f"The direct connect interface must not be the health monitor interface, which is "
                f"{found}: the cable is a second path."
            )
        return found

    return rule


def ipv4(text: str) -> ipaddress.IPv4Address:
    """An IPv4 address of a machine."""
    try:
        found = ipaddress.IPv4Address(text)
    except ValueError:
        raise BadAnswer(
            "The address must be four numbers from 0 to 255 separated by dots, such as 10.10.10.12."
        ) from None
    if found.is_loopback or found.is_multicast or found.is_unspecified or int(found) >> 28 == 15:
        raise BadAnswer(
            f"{found} cannot be the address of a machine: it is a loopback, multicast, unspecified "
            "or reserved address."
        )
    return found


def address(text: str, view: View) -> str:
    """An IPv4 address."""
    return str(ipv4(text))


def own_address(text: str, view: View) -> str:
    """The address of an interface: not the virtual IP."""
    found = str(ipv4(text))
    if view.get("ha.virtual_ip") == found and view.role == PRIMARY:
        raise BadAnswer(
            f"The health monitor IP address and the virtual IP address must differ, but {found} is "
            "the virtual IP address."
        )
    return found


def other_address(text: str, view: View) -> str:
    """The address of another machine."""
    found = str(ipv4(text))
    own = [view.address(interface.name)[0] for interface in view.machine.interfaces]
    if found in own:
        raise BadAnswer(f"{found} is this machine's own address; it must be another machine's.")
    if found == view.virtual[0]:
        raise BadAnswer(
            f"{found} is the virtual IP address, which moves; it must be the other machine's own."
        )
    return found


def netmask(text: str, view: View) -> str:
    """A contiguous mask, or a prefix length."""
    try:
        number = text.removeprefix("/")
        length = int(number) if number.isdigit() and "." not in number else None
        network = ipaddress.IPv4Network(f"0.0.0.0/{length if length is not None else text}")
    except ValueError:
        network = None
    if network is None or not 1 <= network.prefixlen <= 30 or (length is None and _is_wild(text)):
        raise BadAnswer(
            "The network mask must be ones followed by zeros, such as 255.255.255.0 (or a prefix "
            "length from 1 to 30, such as 24)."
        )
    return str(network.netmask)


def _is_wild(text: str) -> bool:
    """A host mask such as 0.0.0.255, which the library would take for a netmask."""
    return int(ipaddress.IPv4Address(text)) >> 31 == 0


def netmask_for(question: str) -> Rule:
    """A mask with which the address before it is that of a machine."""

    def rule(text: str, view: View) -> str:
        mask = netmask(text, view)
        require_host(view.get(question), mask)
        return mask

    return rule


def require_host(host: str, mask: str) -> None:
    """Raise BadAnswer where the address is its network's own or its broadcast address."""
    if not host:
        return
    network = ipaddress.IPv4Interface(f"{host}/{mask}").network
    if ipaddress.IPv4Address(host) in (network.network_address, network.broadcast_address):
        raise BadAnswer(
            f"{host} is the first or the last address of {network}, which no machine may have."
        )


def own_netmask(interface: str) -> Rule:
    """An interface's mask: on the health monitor's, the virtual IP must lie in the subnet."""
    plain = netmask_for(f"{interface}.address")

    def rule(text: str, view: View) -> str:
        mask = plain(text, view)
        virtual = view.get("ha.virtual_ip")
        if virtual and view.role == PRIMARY and view.health_interface == interface:
            network = ipaddress.IPv4Interface(f"{view.get(f'{interface}.address')}/{mask}").network
            if ipaddress.IPv4Address(virtual) not in network:
                raise BadAnswer(
                    f"The health monitor IP address and the virtual IP address must be in the same "
                    f"subnet, but {virtual} lies outside {network}."
                )
        return mask

    return rule


def gateway(interface: str) -> Rule:
    """A neighbour of the first interface, or none."""

    def rule(text: str, view: View) -> str:
        if text.lower() == NONE:
            return NONE
        try:
            found = ipv4(text)
        except BadAnswer as error:
            raise BadAnswer(f"{error.sentence} Without a gateway: 'none'.") from None
        own, mask = view.address(interface)
        if own and mask:
            network = ipaddress.IPv4Interface(f"{own}/{mask}").network
            if found not in network or str(found) == own:
                raise BadAnswer(
                    f"The default gateway must be reachable from {interface}: another address of "
                    f"{network}, or 'none'."
                )
        return str(found)

    return rule


def dns_servers(text: str, view: View) -> str:
    """Up to three addresses, IPv4 or IPv6."""
    words = _words(text)
    if not 1 <= len(words) <= DNS_MAX:
        raise BadAnswer(f"There must be 1 to {DNS_MAX} DNS servers, separated by spaces.")
    return " ".join(_ip(word) for word in words)


def _ip(word: str) -> str:
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise BadAnswer(
            f"'{word}' is not an IP address: a DNS server must be given by its address, such as "
            "10.10.10.2."
        ) from None


def ntp_servers(text: str, view: View) -> str:
    """Up to four names or addresses."""
    words = _words(text)
    if not 1 <= len(words) <= SERVERS_MAX:
        raise BadAnswer(f"There must be 1 to {SERVERS_MAX} NTP servers, separated by spaces.")
    for word in words:
        require_host_or_address(word)
    return " ".join(words)


def require_host_or_address(word: str) -> None:
    """Raise BadAnswer where ``word`` is neither an address nor a name."""
    try:
        ipaddress.ip_address(word)
    except ValueError:
        is_number = word.rpartition(".")[2].isdigit()
        if not is_domain(word) or is_number:
            raise BadAnswer(
                f"'{word}' is neither an IP address nor a host name such as ntp.example.net."
            ) from None


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word for word in _WORDS.split(text) if word))


_CLOCK = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d)(?::(\d\d))?", re.ASCII)


def clock(text: str, view: View) -> str:
    """A date and time, or the clock as it is."""
    if text.lower() == "keep":
        return "keep"
    match = _CLOCK.fullmatch(text)
    try:
        text = (
            f"{match[1]}-{match[2]}-{match[3]} {match[4]}:{match[5]}:{match[6] or '00'}"
            if (match)
            else ""
        )
        found = datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise BadAnswer(
            "The date and time must be written as YYYY-MM-DD hh:mm:ss, or 'keep'."
        ) from None
    if not 2020 <= found.year <= 2100:
        raise BadAnswer("The year must lie between 2020 and 2100.")
    return f"{found:%Y-%m-%d %H:%M:%S}"


def failover_wait(text: str, view: View) -> str:
    """Seconds, as the protocol's own arithmetic allows."""
    try:
        seconds = float(text)
        is_possible = not timing_faults(round(seconds * SECOND))
    except (ValueError, OverflowError):
        is_possible = False
    if not is_possible:
        raise BadAnswer("The failover wait must be a number of seconds from 2 to 120.")
    return f"{seconds:g}"


def endpoints(text: str, view: View) -> str:
    """URLs of an etcd cluster."""
    words = _words(text)
    for word in words:
        try:
            parts = urlsplit(word)
            is_url = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
            is_url = is_url and parts.path in ("", "/") and not parts.query
            is_url = is_url and word.isascii() and word.isprintable()
        except ValueError:
            is_url = False
        if not is_url:
            raise BadAnswer(f"'{word}' is not an endpoint such as https://10.10.10.21:2379.")
    if not words:
        raise BadAnswer("There must be at least one endpoint such as https://10.10.10.21:2379.")
    return " ".join(words)


def file_path(text: str, view: View) -> str:
    """An absolute path, or none."""
    if text.lower() == NONE:
        return NONE
    if not PurePosixPath(text).is_absolute() or not text.isprintable():
        raise BadAnswer("The file must be named by its full path, beginning with '/', or 'none'.")
    return text


def password(text: str, view: View) -> str:
    """As long as every password of the product."""
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH or not text.isprintable():
        raise BadAnswer(
            f"The password must have {MIN_LENGTH} to {MAX_LENGTH} printable characters."
        )
    return text


def same_as(question: str) -> Rule:
    """The same password again."""

    def rule(text: str, view: View) -> str:
        if text != view.get(question):
            raise BadAnswer(
                "The two passwords must be the same. Type it again, or ^ to begin with the first."
            )
        return text

    return rule
