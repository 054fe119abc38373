"""What a laboratory looks like from outside: the answer of ``mse lab status --json``.

The form is pinned (scripts rest on it). Each node is asked over its own control
socket; one that has no power, is frozen or too slow has nulls.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from openmse.errors import MseError
from openmse.lab import client as client_files
from openmse.lab.freezer import Freezer
from openmse.lab.programs import CONTROL_SOCKET, HEALTH_MONITOR, POSTGRES
from openmse.lab.topology import VIRTUAL_IP, Kind
from openmse.node.control.client import ControlClient

if TYPE_CHECKING:
    from openmse.lab.laboratory import Laboratory

_ANSWER_TIMEOUT_S: Final = 3.0
_PRIMARY: Final = "mse1"


def ask(laboratory: "Laboratory", machine: str) -> dict[str, Any] | None:
    """What ``mse ha status --json`` says on a node; None if it does not answer.

    Asked over the same control socket, but from here: starting programs inside the machines would
    disturb what is being watched. The form is that of ``openmse.node.control.snapshot.Snapshot``.
    """
    if Freezer.of(laboratory.places.control_group(machine)).is_frozen():
        return None
    try:
        with ControlClient(laboratory.path_in(machine, CONTROL_SOCKET)) as client:
            answer: Any = client.call("status", within_s=_ANSWER_TIMEOUT_S)
    except MseError:
        return None
    return answer if isinstance(answer, dict) else None


def of(laboratory: "Laboratory") -> dict[str, Any]:
    """The whole laboratory."""
    nodes = [name for name, m in laboratory.machines.items() if m.kind is Kind.NODE]
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        told = dict(zip(nodes, pool.map(lambda name: ask(laboratory, name), nodes), strict=True))
    return {
        "name": laboratory.name,
        "machines": {
            name: _machine(laboratory, name, told.get(name)) for name in laboratory.machines
        },
        "groups": {_PRIMARY: _group(laboratory, told)},
    }


def _machine(laboratory: "Laboratory", name: str, told: dict[str, Any] | None) -> dict[str, Any]:
    pids = laboratory.pids(name)
    answer = told or {}
    return {
        "namespace": laboratory.places.namespace(name),
        "address": laboratory.machines[name].address,
        "state": answer.get("state"),
        "role": answer.get("role"),
        "sync": answer.get("sync"),
        "epoch": _register(told).get("epoch"),
        "pids": {HEALTH_MONITOR: pids[HEALTH_MONITOR], POSTGRES: pids[POSTGRES]},
    }


def _register(told: dict[str, Any] | None) -> dict[str, Any]:
    """The newest config that a node knows chosen; empty where there is none."""
    return (told or {}).get("register") or {}


def _group(laboratory: "Laboratory", told: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """The group as the node with the newest config (term, epoch) tells it."""
    registers = [register for answer in told.values() if (register := _register(answer))]
    newest = max(registers, key=lambda r: (r["term"], r["epoch"]), default={})
    return {
        "virtual_ip": VIRTUAL_IP,
        "owner": newest.get("owner"),
        "mode": newest.get("mode"),
        "epoch": newest.get("epoch"),
        "client_dsn": client_files.dsn(laboratory.places),
    }
