"""What a laboratory looks like from outside: the answer of ``mse lab status --json``.

The form is pinned (scripts rest on it). Each node is asked through the product's own command inside
its machine; one that has no power, is cut off from its own daemon or too slow has nulls.
"""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from openmse.errors import UsageError
from openmse.lab import client
from openmse.lab.programs import HEALTH_MONITOR, POSTGRES
from openmse.lab.topology import VIRTUAL_IP, Kind

if TYPE_CHECKING:
    from openmse.lab.laboratory import Laboratory

_ANSWER_TIMEOUT_S: Final = 5.0
_PRIMARY: Final = "mse1"


def ask(laboratory: "Laboratory", machine: str) -> dict[str, Any] | None:
    """What ``mse ha status --json`` says on a node; None if it does not answer.

    The form is that of ``openmse.node.control.snapshot.Snapshot``.
    """
    command = ["mse", "ha", "status", "--json"]
    try:
        done = laboratory.exec(machine, command, timeout_s=_ANSWER_TIMEOUT_S)
        answer = json.loads(done.stdout)
    except (UsageError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return answer if done.returncode == 0 and isinstance(answer, dict) else None


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
        "client_dsn": client.dsn(laboratory.places),
    }
