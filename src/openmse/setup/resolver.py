"""DNS: resolv.conf, systemd-resolved or resolvconf, whichever this machine uses. Pure."""

from openmse.setup.world import RESOLV, RESOLVCONF_HEAD, RESOLVED, Entry, Link, World

_OURS = ("nameserver", "search", "domain")


def place_of(world: World) -> str:
    """The file in which the servers are to be set."""
    found = world.files.get(RESOLV)
    if isinstance(found, Link):
        if "systemd/resolve" in found.target:
            return RESOLVED
        if "resolvconf" in found.target:
            return RESOLVCONF_HEAD
    return RESOLV


def servers_in(world: World) -> tuple[tuple[str, ...], str]:
    """The servers and the search domain that are set now."""
    place = place_of(world)
    text = world.text(place) or ""
    if place == RESOLVED:
        pairs = [line.partition("=")[::2] for line in text.splitlines()]
        values = {key.strip(): value.strip() for key, value in pairs}
        return tuple(values.get("DNS", "").split()), values.get("Domains", "").split(" ")[0]
    lines = [line.split() for line in text.splitlines()]
    servers = tuple(words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1)
    domains = [words[1] for words in lines if words[:1] in (["search"], ["domain"]) and words[1:]]
    return servers, domains[0] if domains else ""


def resolver_file(world: World, servers: tuple[str, ...], domain: str) -> tuple[str, Entry]:
    """The path and the text with these servers and this search domain."""
    place = place_of(world)
    if place == RESOLVED:
        lines = ["# Written by 'mse setup'.", "[Resolve]", f"DNS={' '.join(servers)}"]
        lines += ["FallbackDNS="] if not servers else []
        lines += [f"Domains={domain}"] if domain else []
        return place, "\n".join(lines) + "\n"
    kept = [
        line for line in (world.text(place) or "").splitlines() if line.split()[:1] not in _WORDS
    ]
    lines = [f"search {domain}"] if domain else []
    lines += [f"nameserver {server}" for server in servers]
    return place, "".join(f"{line}\n" for line in [*kept, *lines])


_WORDS = [[word] for word in _OURS]
