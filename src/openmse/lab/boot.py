"""Starts a machine: enters its network namespace, makes the others, becomes its PID 1.

Run as ``python -m openmse.lab.boot`` with a BootSpec as JSON on standard input. Prints one JSON
line ``{"pid": …}`` (the host's pid of the machine's PID 1) as soon as that exists, and exits 0 once
the machine's root is in place and PID 1 has been executed; otherwise 1 with a sentence on standard
error.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from openmse.lab import linux
from openmse.lab.rootfs import InitialFile, RootSpec, build

INIT_CONFIG = "/run/boot.json"
_INIT = "/opt/openmse/src/openmse/lab/init.py"
_PYTHON = "/opt/openmse/venv/bin/python3"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSpec:
    """Everything the starter needs."""

    lab: str
    netns: str
    root: RootSpec
    programs: Sequence[tuple[str, Sequence[str], str]]
    """(name, argv, needed path or ''): what PID 1 starts and restarts."""
    environment: dict[str, str]
    control_group: str = ""
    """The ``cgroup.procs`` file of the machine's control group, '' where there is none."""

    def to_json(self) -> str:
        """The form that the starter reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "BootSpec":
        """The reverse of ``to_json``."""
        fields: dict[str, Any] = json.loads(text)
        root = fields.pop("root")
        files = tuple(InitialFile(**file) for file in root.pop("files"))
        return cls(root=RootSpec(files=files, **root), **fields)


def _become_init(spec: BootSpec, failure: int) -> None:
    """In PID 1: build the root and execute the machine's init; reports into ``failure``."""
    try:
        os.setsid()
        build(spec.root)
        config = {"programs": spec.programs, "environment": spec.environment}
        with open(INIT_CONFIG, "w") as file:
            json.dump(config, file)
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open("/var/log/console/init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        argv = [_PYTHON, "-I", _INIT, spec.lab, spec.root.hostname, INIT_CONFIG]
        os.execve(_PYTHON, argv, spec.environment)
    except Exception as error:  # the only way to tell: whatever it was, PID 1 must not go on
        os.write(failure, str(error).encode() or repr(error).encode())
    finally:
        os._exit(1)


def main() -> int:
    """Start one machine."""
    spec = BootSpec.from_json(sys.stdin.read())
    os.umask(0o022)
    if spec.control_group:
        with open(spec.control_group, "w") as file:
            file.write("0")
    linux.enter_network(spec.netns)
    kinds = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWPID
    linux.unshare(kinds)
    reader, writer = os.pipe()  # close-on-exec: closes itself when init has been executed
    pid = os.fork()
    if pid == 0:
        _become_init(spec, writer)
    os.close(writer)
    print(json.dumps({"pid": pid}), flush=True)
    with os.fdopen(reader) as stream:
        failure = stream.read()
    if failure:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
