"""Which of Debian's ways sets this machine's addresses, and the files of the wanted ones. Pure."""

from enum import StrEnum

from openmse.setup import ifupdown, networkd
from openmse.setup.networkd import Wanted
from openmse.setup.values import NONE, View
from openmse.setup.world import INTERFACES, NETWORK_DIRS, World

NETWORKD_LINK = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
MANAGER_LINK = "/etc/systemd/system/multi-user.target.wants/NetworkManager.service"
NETWORKD_UNIT = "systemd-networkd.service"


class Form(StrEnum):
    """Who sets the addresses at boot."""

    NETWORKD = "systemd-networkd"
    IFUPDOWN = "ifupdown"
    MANAGER = "NetworkManager"
    """Not written by setup: its own tools are used instead."""


def form_of(world: World) -> Form:
    """What this machine uses; systemd-networkd where it uses nothing yet."""
    files = ifupdown_files(world)
    if any(ifupdown.file_of(name, files) for name in world.interfaces):
        return Form.IFUPDOWN
    if NETWORKD_LINK in world.marks:
        return Form.NETWORKD
    if MANAGER_LINK in world.marks:
        return Form.MANAGER
    has_ifup = any(mark.endswith("/ifup") for mark in world.marks)
    return Form.IFUPDOWN if has_ifup and INTERFACES in world.files else Form.NETWORKD


def networkd_files(world: World) -> dict[str, str]:
    """Every .network file."""
    return _texts(world, NETWORK_DIRS, ".network")


def ifupdown_files(world: World) -> dict[str, str]:
    """/etc/network/interfaces and what it includes."""
    return _texts(world, (INTERFACES,), "")


def _texts(world: World, starts: tuple[str, ...], end: str) -> dict[str, str]:
    texts = {path: world.text(path) for path in world.files}
    return {
        path: text
        for path, text in texts.items()
        if path.startswith(starts) and path.endswith(end) and text is not None
    }


def wanted_interfaces(view: View) -> list[Wanted]:
    """The interfaces about which something was answered."""
    found = []
    for number, interface in enumerate(view.machine.interfaces):
        name = interface.name
        if view.get(name) not in ("yes", "default"):
            continue
        address, netmask = view.address(name)
        gateway = view.gateway if number == 0 else ""
        found.append(
            Wanted(
                name=name,
                address=address,
                netmask=netmask,
                gateway="" if gateway == NONE else gateway,
            )
        )
    return found


def network_files(view: View, world: World) -> dict[str, str]:
    """The files of all wanted interfaces, by path."""
    form = form_of(world)
    files = ifupdown_files(world) if form is Form.IFUPDOWN else networkd_files(world)
    written: dict[str, str] = {}
    for wanted in wanted_interfaces(view):
        change = ifupdown.changed if form is Form.IFUPDOWN else networkd.changed
        found = change(wanted, files)
        files = {**files, **found}
        written |= found
    return written
