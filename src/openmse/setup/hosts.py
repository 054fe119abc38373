"""/etc/hostname and /etc/hosts: this machine's own name, and nobody else's line. Pure."""

LOOPBACK = ("127.0.0.1", "::1")
OWN = "127.0.1.1"
"""What Debian uses for the own name on a machine without a fixed address."""


def hostname_text(name: str) -> str:
    """The content of /etc/hostname."""
    return f"{name}\n"


def domain_of(hosts: str, hostname: str) -> str:
    """The domain that /etc/hosts gives to ``hostname``; '' where it gives none."""
    for line in hosts.splitlines():
        words = line.partition("#")[0].split()
        for word in words[1:]:
            name, dot, domain = word.partition(".")
            if dot and name == hostname and domain:
                return domain
    return ""


def hosts_text(text: str, old: str, names: tuple[str, ...], address: str) -> str:
    """/etc/hosts with one line for this machine: ``address`` and ``names``, the full one first.

    ``old`` is the host name so far. Lines of other machines stay, also their comments; a line that
    gives this one an IPv6 address stays too, under its new names.
    """
    ours = {*names, old, f"{old}.{domain_of(text, old)}"} - {"localhost"}
    wanted = f"{address or OWN}\t{' '.join(names)}"
    kept: list[str] = []
    place: int | None = None
    for line in text.splitlines():
        if _is_ipv6(line):
            kept.append(_renamed(line, ours, names))
            continue
        left = _without(line, ours, address or OWN)
        if left != line and place is None:
            place = len(kept)
        if left is not None:
            kept.append(left)
    if place is None:
        place = next((n + 1 for n, line in enumerate(kept) if line.split()[:1] == [LOOPBACK[0]]), 0)
    loopback = [] if any(line.split()[:1] == [LOOPBACK[0]] for line in kept) else [_LOCALHOST]
    return "\n".join([*loopback, *kept[:place], wanted, *kept[place:]]) + "\n"


_LOCALHOST = "127.0.0.1\tlocalhost"


def _is_ipv6(line: str) -> bool:
    first = line.partition("#")[0].split()[:1]
    return bool(first) and ":" in first[0] and first[0] != LOOPBACK[1]


def _renamed(line: str, ours: set[str], names: tuple[str, ...]) -> str:
    """A line of an IPv6 address, on which the new names stand where the old ones did."""
    content, mark, comment = line.partition("#")
    words = content.split()
    if not ours & set(words[1:]):
        return line
    others = [word for word in words[1:] if word not in ours]
    tail = f" {mark}{comment}" if mark else ""
    return f"{words[0]}\t{' '.join((*names, *others))}{tail}"


def _without(line: str, ours: set[str], address: str) -> str | None:
    """The line without our names; None where nothing but them stood on it."""
    content, mark, comment = line.partition("#")
    words = content.split()
    if len(words) < 2:
        return line
    left = [word for word in words[1:] if word not in ours]
    if len(left) == len(words) - 1:
        return line
    if not left:
        return None
    tail = f" {mark}{comment}" if mark else ""
    return f"{words[0]}\t{' '.join(left)}{tail}"
