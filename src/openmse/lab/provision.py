"""Sets a new laboratory's machines up with the product's own commands, until the pair is in SYNC.

One function per step; the only module that knows the product's set-up commands. What an
administrator would type is typed here, inside the machines.
"""

import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from openmse.errors import PairingError
from openmse.lab import client, status
from openmse.lab.programs import CONFIG_PATH, ENABLED, WITNESS_CONFIG_PATH
from openmse.lab.rootfs import InitialFile
from openmse.lab.state import State
from openmse.lab.topology import (
    PREFIX,
    PREFIX6,
    PREFIX_DIRECT,
    VIRTUAL_IP,
    VIRTUAL_IP6,
    Kind,
    Machine,
    Topology,
    machines_of,
)

if TYPE_CHECKING:
    from openmse.lab.laboratory import Laboratory

PRIMARY: Final = "mse1"
SECONDARY: Final = "mse2"
WITNESS: Final = "witness"
PASSWORD_FILE: Final = "/etc/openmse/pairing-password"
WITNESS_PASSWORD_FILE: Final = "/etc/openmse/witness-password"
_AUTHORITY: Final = "/var/lib/openmse/pki/ca.crt"
_CLIENT_PASSWORD: Final = "/var/lib/openmse/postgres/client_password"
_ANSWER_DEADLINE_S: Final = 30.0
_PAIR_DEADLINE_S: Final = 180.0
_SYNC_DEADLINE_S: Final = 120.0
Progress = Callable[[str], None]


# ---------------------------------------------------------------------- files of a new machine


def files_of(laboratory: "Laboratory", loaded: State, machine: Machine) -> tuple[InitialFile, ...]:
    """The files that a machine finds at its first boot."""
    match machine.kind:
        case Kind.NODE:
            config = node_config(
                machine, loaded.topology, loaded.failover_wait_s, is_direct=loaded.is_direct
            )
            return (InitialFile(path=CONFIG_PATH, content=config),)
        case Kind.WITNESS:
            config = f'[witness]\nname = "{WITNESS}"\naddress = "{machine.address}"\n'
            return (InitialFile(path=WITNESS_CONFIG_PATH, content=config),)
        case Kind.CLIENT:
            return ()


def node_config(
    machine: Machine, topology: Topology, failover_wait_s: float, *, is_direct: bool = False
) -> str:
    """The configuration file of a node."""
    direct = f'direct_interface = "eth1"\ndirect_address = "{machine.direct_address}/'
    direct = f'{direct}{PREFIX_DIRECT}"\n' if is_direct else ""
    role = "primary" if machine.name == PRIMARY else "secondary"
    section = 'kind = "none"\n'
    if topology is Topology.PAIR:
        address = machines_of(topology)[WITNESS].address
        section = f'kind = "console"\nname = "{WITNESS}"\naddress = "{address}"\n'
    return (
        "# Written by `mse lab up`.\n"
        "[node]\n"
        f'name = "{machine.name}"\n'
        f'role = "{role}"\n'
        f'address = "{machine.address}/{PREFIX}"\n'
        f'address6 = "{machine.address6}/{PREFIX6}"\n'
        'interface = "eth0"\n'
        f"{direct}"
        "\n[group]\n"
        f'virtual_ips = ["{VIRTUAL_IP}/{PREFIX}", "{VIRTUAL_IP6}/{PREFIX6}"]\n'
        f"failover_wait_s = {failover_wait_s}\n"
        f"\n[witness]\n{section}"
    )


# ---------------------------------------------------------------------- the steps


def pair(laboratory: "Laboratory", progress: Progress) -> None:
    """Prepare every machine, start its programs, pair, and wait for SYNC.

    Raises: PairingError with the words of the command that failed.
    """
    _prepare(laboratory, progress)
    for name in laboratory.machines:
        _run(laboratory, name, ["touch", ENABLED])
    for name in (PRIMARY, SECONDARY):
        progress(f"waiting for the health monitor of {name}")
        _await_answer(laboratory, name)
    _pair(laboratory, progress)
    progress("waiting for SYNC")
    _await_sync(laboratory, progress)
    progress("writing the client's connection string")
    password = _run(laboratory, PRIMARY, ["cat", _CLIENT_PASSWORD]).strip()
    authority = _run(laboratory, PRIMARY, ["cat", _AUTHORITY])
    client.write_files(laboratory.places, password, authority)


def _prepare(laboratory: "Laboratory", progress: Progress) -> None:
    password = secrets.token_urlsafe(18)
    for name in (PRIMARY, SECONDARY):
        progress(f"preparing {name}")
        _write_secret(laboratory, name, PASSWORD_FILE, password)
        command = ["mse", "node", "init"]
        if name == SECONDARY:
            command += ["--pairing-password-file", PASSWORD_FILE]
        _run(laboratory, name, command)
    if WITNESS in laboratory.machines:
        progress("preparing the witness")
        password = secrets.token_urlsafe(18)
        for name in (PRIMARY, WITNESS):
            _write_secret(laboratory, name, WITNESS_PASSWORD_FILE, password)
        command = ["mse", "witness", "init", "--config", WITNESS_CONFIG_PATH]
        _run(laboratory, WITNESS, [*command, "--password-file", WITNESS_PASSWORD_FILE])


def _pair(laboratory: "Laboratory", progress: Progress) -> None:
    machines = laboratory.machines
    command = ["mse", "ha", "pair", "--peer", machines[SECONDARY].address]
    command += ["--password-file", PASSWORD_FILE]
    if WITNESS in machines:
        command += ["--witness", machines[WITNESS].address]
        command += ["--witness-password-file", WITNESS_PASSWORD_FILE]
    else:
        command += ["--no-witness"]
    progress("pairing: mse ha pair")
    _run(laboratory, PRIMARY, command, timeout_s=_PAIR_DEADLINE_S)
    for name in machines:
        _run(laboratory, name, ["rm", "-f", PASSWORD_FILE, WITNESS_PASSWORD_FILE])


def _await_answer(laboratory: "Laboratory", machine: str) -> None:
    deadline = time.monotonic() + _ANSWER_DEADLINE_S
    while status.ask(laboratory, machine) is None:
        if time.monotonic() > deadline:
            raise PairingError(
                f"The health monitor of {machine} does not answer.\n{log_tail(laboratory, machine)}"
            )
        time.sleep(0.05)


def _await_sync(laboratory: "Laboratory", progress: Progress) -> None:
    """Wait for SYNC, or without a witness for its PINNED: the peer holds everything."""
    wanted = "SYNC" if WITNESS in laboratory.machines else "PINNED"
    deadline = time.monotonic() + _SYNC_DEADLINE_S
    last = ""
    while True:
        answers = [status.ask(laboratory, name) or {} for name in (PRIMARY, SECONDARY)]
        registers = [answer.get("register") or {} for answer in answers]
        if {register.get("mode") for register in registers} == {wanted}:
            return
        words = ", ".join(f"{a.get('node', '?')} {a.get('state', '?')}" for a in answers)
        if words != last:
            progress(words)
            last = words
        if time.monotonic() > deadline:
            tails = "\n".join(log_tail(laboratory, name) for name in (PRIMARY, SECONDARY))
            raise PairingError(
                f"The pair is not in {wanted} after {_SYNC_DEADLINE_S:.0f} s: {words}.\n{tails}"
            )
        time.sleep(0.1)


def _run(
    laboratory: "Laboratory", machine: str, command: Sequence[str], timeout_s: float = 60.0
) -> str:
    try:
        done = laboratory.exec(machine, command, timeout_s=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise PairingError(
            f"'{' '.join(command)}' on {machine} did not end within {timeout_s:.0f} s.\n"
            f"{log_tail(laboratory, machine)}"
        ) from error
    if done.returncode:
        raise PairingError(
            f"'{' '.join(command)}' on {machine} failed ({done.returncode}): "
            f"{done.stderr.strip()}\n{log_tail(laboratory, machine)}"
        )
    return done.stdout


def _write_secret(laboratory: "Laboratory", machine: str, path: str, secret: str) -> None:
    script = f"umask 077; cat > {path}"
    done = laboratory.exec(machine, ["sh", "-c", script], input_text=f"{secret}\n")
    if done.returncode:
        raise PairingError(f"{path} could not be written on {machine}: {done.stderr.strip()}")


def log_tail(laboratory: "Laboratory", machine: str, lines: int = 15) -> str:
    """The last words of a machine's programs, for an error."""
    found = []
    for path in sorted(laboratory.places.logs(machine).glob("*.log")):
        text = path.read_text(errors="replace").splitlines()[-lines:]
        found += [f"{machine}, {path.name}: {line}" for line in text]
    return "\n".join(found)
