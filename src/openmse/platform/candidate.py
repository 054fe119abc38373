"""What a secondary tells anybody of its machine, and how a primary asks it.

Asked before a pairing, so before either side has proven anything: the answer is used only to refuse
two machines that make no pair (``openmse.platform.pairing``), never to allow anything. Whoever can
forge it can also cut the connection. Where it cannot be had, pairing goes on and says so.
"""

import http.client
import ipaddress
import ssl
from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.documents import document
from openmse.platform import measure, settings
from openmse.platform.errors import CandidateUnknown
from openmse.platform.machines import Machine
from openmse.platform.pairing import check_pair, refusal_of_another, why_no_pair
from openmse.platform.who import peers_of

PATH = "/v1/candidate"
WITHIN_S = 3.0
MAX_BYTES = 64 * 1024


class Candidate(Struct, frozen=True, kw_only=True):
    """A secondary: its machine, and whether it waits for a primary or backs one already."""

    name: str
    version: str
    machine: Machine
    backs: tuple[Machine | None, ...] = ()
    """The machines of the primaries that it backs; null for one that has not told what it is."""
    is_direct: bool = False
    """Whether it has its end of a direct connection."""


def ask(address: str, port: int, *, within_s: float = WITHIN_S) -> Candidate:
    """What the machine at ``address`` tells through its management API. Blocking.

    Raises CandidateUnknown where it tells nothing, with the reason.
    """
    try:
        return msgspec.json.decode(_body(address, port, within_s), type=Candidate)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise _unknown(address, port, f"does not answer ({reason})") from error
    except msgspec.MsgspecError as error:
        raise _unknown(address, port, "does not tell what machine it runs on") from error


def compare(here: Machine, address: str, port: int, *, is_direct: bool = False) -> str:
    """Refuse two machines that make no pair; why they could not be compared, '' where they were.

    ``here`` is the primary; ``is_direct``: it has its end of a direct connection. Raises
    PairingMatrixRefused, also for a secondary that is taken; nothing was changed then.
    """
    try:
        there = ask(address, port)
    except CandidateUnknown as error:
        return f"{error.sentence} {error.hint}"
    is_direct = is_direct or there.is_direct
    if there.backs:
        others = (*there.backs, here)
        raise refusal_of_another(address, others, there.machine, is_direct=is_direct)
    check_pair([here], there.machine, is_direct=is_direct)
    return ""


def this_machine(config: Path, state_dir: Path) -> Machine:
    """The machine whose node has its configuration in ``config``. Raises PlatformConfigError."""
    chosen = settings.load(settings.path_beside(config))
    return measure.machine(chosen.platform.machine, state_dir)


def doubt(config: Path, state_dir: Path, me: str, *, is_primary: bool) -> str:
    """Why this node and its peer should be no pair by their machines; '' if all is well.

    By what the peer told over the proven link; '' also where it has told nothing. Raises MseError.
    """
    here = this_machine(config, state_dir)
    for told in peers_of(state_dir, me):
        primary, secondary = (here, told.machine) if is_primary else (told.machine, here)
        why = why_no_pair([primary], secondary)
        if why:
            return f"{me} and {told.name} are no pair by their machine types: {why}"
    return ""


def _body(address: str, port: int, within_s: float) -> bytes:
    connection = http.client.HTTPSConnection(address, port, timeout=within_s, context=_unverified())
    try:
        connection.request("GET", PATH, headers={"Host": _host(address, port)})
        response = connection.getresponse()
        data = response.read(MAX_BYTES)
        return data if response.status == http.HTTPStatus.OK else b""
    finally:
        connection.close()


def _host(address: str, port: int) -> str:
    is_v6 = ipaddress.ip_address(address).version == 6
    return f"[{address}]:{port}" if is_v6 else f"{address}:{port}"


def _unverified() -> ssl.SSLContext:
    """Certificates are self-signed and pinned by consoles; a stranger's cannot be verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unknown(address: str, port: int, why: str) -> CandidateUnknown:
    return CandidateUnknown(
        f"The machine types were not compared: the management API of {address} (port {port}) "
        f"{why}.",
        f"Whether the two make a pair: {document('platform')}; 'mse ha doctor' tells it once "
        "both have exchanged what they are ('mse license sync' on both).",
    )
