"""``mse setup --recover-from``: this machine takes the place of one that its group has lost.

The owner of the group gives keys, certificates and facts over the pairing conversation; they are
stored as a pairing stores them, the facts last. From there on it is recovery mode: the wizard finds
the facts of a group on a machine without configuration, and writes the file from them.
"""

import asyncio
import ipaddress
import socket
from pathlib import Path

import msgspec
import tomlkit

from openmse import __version__
from openmse.errors import CommandRefused, DaemonDownError, PairingError, UsageError
from openmse.node import group as group_file
from openmse.node.config import NodeConfig, Places, Role
from openmse.node.config_load import parse
from openmse.node.control.client import ControlClient
from openmse.node.direct import with_direct
from openmse.node.drivers.store import open_voter
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.identity import node_info, own_addresses
from openmse.node.runtime.pairing_desk import facts_in, keep_identity, unfit
from openmse.pki.names import Role as Party
from openmse.pki.pairing import readmit_from
from openmse.pki.pairing_exchange import Paired, Responder
from openmse.pki.pairing_messages import Facts, Offer
from openmse.setup import probes, recovery
from openmse.setup.directories import prepare

_NAMELESS = "a-new-machine"
"""Said before the owner has given a name; nothing is ever stored under it."""


def readmit(owner: str, port: int, password: str, *, config: str, places: Places) -> str:
    """Become the other node of the group that ``owner`` owns; what came of it, as a sentence.

    Raises MseError; nothing but an empty register was made then, and it may be repeated.
    """
    require_new(owner, config=config, places=places)
    newcomer = Newcomer(*own_address(owner), config=config, places=places)
    is_known = asyncio.run(readmit_from(owner, port, password, newcomer))
    return newcomer.told(is_known=is_known)


def require_new(owner: str, *, config: str, places: Places) -> None:
    """Raise MseError where this machine cannot take a lost one's place, or not from ``owner``."""
    if Path(config).exists():
        raise CommandRefused(
            f"{config} is still here: it is the lost member's, whose name is never used again. "
            "Nothing was changed.",
            "Move it away if this machine is new in its group; if only its state is needed back, "
            "do not use --recover-from.",
        )
    _refuse_running(places)
    own_address(owner)


def own_address(owner: str) -> tuple[str, str]:
    """The address with its prefix from which this machine reaches ``owner``, and its interface.

    Raises UsageError where there is none.
    """
    try:
        target = str(ipaddress.IPv4Address(owner))
    except ValueError:
        raise UsageError(
            f"'{owner}' is not an IPv4 address such as 10.10.10.12; nothing was changed.",
            "Name the IPv4 address of the node that owns.",
        ) from None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((target, 9))
            own = str(sock.getsockname()[0])
    except OSError as error:
        raise UsageError(
            f"'{owner}' cannot be reached: {error.strerror}. Nothing was changed.",
            "Name the IPv4 address of the node that owns; set this machine's own address first.",
        ) from error
    for interface, addresses in probes.live_addresses().items():
        for address in addresses:
            if address.partition("/")[0] == own:
                return address, interface
    raise UsageError(f"No interface of this machine has {own}; nothing was changed.")


class Newcomer:
    """The taking side of a re-admission."""

    def __init__(self, address: str, interface: str, *, config: str, places: Places) -> None:
        """``address``: this machine's own, with its prefix."""
        self._address = address
        self._interface = interface
        self._path = config
        self._places = places
        self._found = group_file.load(places.group)
        self._config: NodeConfig | None = None
        self._incarnation = ""
        self._left: Path | None = None

    def responder(self) -> Responder:
        """Who takes; the owner's offer says under which name."""
        name = self._config.node.name if self._config is not None else _NAMELESS
        groups = (self._found.group,) if self._found is not None else ()
        return Responder(name, Party.NODE, __version__, groups)

    def review(self, initiator: str, offer: Offer) -> None:
        """Raise PairingError or CommandRefused where this machine does not fit into the group."""
        info = facts_in(offer)
        me = info.peer_of(initiator)
        if me is None or info.node(initiator) is None or info.group != offer.group:
            raise PairingError("The owner's facts of its group do not fit together.")
        if self._found is not None and self._found.node(me.name) is None:
            raise CommandRefused(
                "This machine is another member of that group already; nothing was changed.",
                f"Erase {self._places.state_dir} if it is the lost one, or if it broke off when "
                "it was waited for before; then repeat this.",
            )
        config = parse(self._text(info, me), Path(self._path))
        fault = unfit(config, info, initiator)
        if fault:
            raise CommandRefused(fault, "Nothing was changed on either side.", code="MSE-PAIR-030")
        self._config = config

    def facts(self) -> Facts:
        """What the owner is told. Makes this machine's empty register. Raises StateError."""
        config = self._required
        prepare(self._places)
        opened = open_voter(self._places.register, config.node.name)
        self._incarnation = opened.record.incarnation
        opened.close()
        return Facts(
            id=config.node.name,
            incarnation=self._incarnation,
            software=__version__,
            addresses=own_addresses(config, ()),
            names=(config.node.name,),
            info=msgspec.json.encode(node_info(config)),
        )

    async def commit(self, paired: Paired) -> None:
        """Store keys and certificates, and the group's facts last. Raises StateError."""
        info, self._left = keep_identity(self._required, paired, self._incarnation)
        lost = facts_in(paired.offer).node(self._required.node.name)
        if lost is not None:  # the cable that the lost one had: setup asks for this end of it
            info = with_direct(info, lost.name, lost.direct)
        group_file.save(self._places.group, info)
        self._found = info

    def told(self, *, is_known: bool) -> str:
        """What came of it."""
        config, info = self._required, self._found
        assert info is not None
        peer = info.peer_of(config.node.name)
        assert peer is not None
        lines = [
            f"This machine is {config.node.name} from now on, in the group of {peer.name}.",
            "Recovery mode sets it up by the facts of that group; once it is started it copies "
            f"the database of {peer.name}.",
            "If setup stops before its end from here on, 'mse setup' is enough, without "
            "--recover-from.",
        ]
        if self._left is not None:
            lines.append(f"The database of another group is kept aside in {self._left}.")
        if not is_known:
            lines.append(
                f"Whether {peer.name} knows it already could not be told: 'mse ha status' there. "
                "If not, repeat this with the same password."
            )
        return "\n".join(lines)

    @property
    def _required(self) -> NodeConfig:
        assert self._config is not None
        return self._config

    def _text(self, info: GroupInfo, me: NodeInfo) -> str:
        """As much of a configuration file as the conversation needs; setup writes the whole."""
        found = recovery.facts(info, me.name)
        role = Role.PRIMARY if info.primary == me.name else Role.SECONDARY
        document = tomlkit.document()
        document["node"] = {
            "name": me.name,
            "role": role.value,
            "address": self._address,
            "interface": self._interface,
        }
        if role is Role.PRIMARY:
            document["group"] = {"virtual_ips": list(info.virtual_ips)}
        document["paths"] = {
            "state_dir": str(self._places.state_dir),
            "run_dir": str(self._places.run_dir),
        }
        for key, value in found.items():
            section, dot, name = key.partition(".")
            if dot:
                document.setdefault(section, tomlkit.table())[name] = int(value)
        return tomlkit.dumps(document)


def _refuse_running(places: Places) -> None:
    try:
        ControlClient(places.control_socket).close()
    except DaemonDownError:
        return
    raise CommandRefused(
        "The health monitor of this machine runs; nothing was changed.", "'mse node stop' first."
    )
