"""What every operation on a laboratory shares: its places, state, switch rules and machines.

Not used by itself: ``laboratory.Laboratory`` is this plus the faults.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openmse
from openmse.errors import DriverError, UsageError
from openmse.lab import procs, state, switch
from openmse.lab.boot import BootSpec
from openmse.lab.freezer import Freezer
from openmse.lab.nft import Nft
from openmse.lab.programs import COMPONENTS, find, programs_of
from openmse.lab.rootfs import InitialFile, RootSpec
from openmse.lab.state import Pid, State
from openmse.lab.topology import (
    SWITCH,
    VIRTUAL_IP,
    VIRTUAL_IP6,
    Kind,
    Machine,
    Places,
    machines_of,
)

_ENTER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from openmse.lab.enter import main; sys.exit(main(sys.argv[2:]))"
)
_POWER_DEADLINE_S = 30.0
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/opt/openmse/bin:/opt/openmse/database/bin:/usr/local/sbin:/usr/local/bin"
    ":/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": "/opt/openmse/src",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Core:
    """One laboratory, as seen by one process. Safe beside others: commands lock."""

    def __init__(self, places: Places, loaded: State) -> None:
        self.places = places
        self.machines: Mapping[str, Machine] = machines_of(loaded.topology)
        self._nft: Nft | None = None

    @property
    def name(self) -> str:
        """The laboratory's name."""
        return self.places.lab

    def state(self) -> State:
        """What is remembered, read anew."""
        return state.load(self.places)

    def machine(self, name: str) -> Machine:
        """The machine called ``name``. Raises: UsageError."""
        if name not in self.machines:
            raise UsageError(
                f"There is no machine '{name}' in the laboratory '{self.name}'.",
                f"It has: {', '.join(self.machines)}.",
            )
        return self.machines[name]

    def close(self) -> None:
        """Leave the switch's namespace; nothing of the laboratory changes."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    # ------------------------------------------------------------------ commands in machines

    def popen(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        user: str = "",
        directory: str = "/",
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command in all namespaces of a machine; ``options`` are Popen's.

        Signals sent to the returned process reach the command, which dies with it; its exit
        status is the command's, 128 + n for a signal. Raises: UsageError without power.
        """
        command, variables = self.entry(
            machine, argv, user=user, directory=directory, environment=environment
        )
        return subprocess.Popen(command, env=variables, **options)

    def entry(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        user: str = "",
        directory: str = "/",
        environment: Mapping[str, str] | None = None,
    ) -> tuple[list[str], dict[str, str]]:
        """The command line and environment that run ``argv`` in a machine."""
        init = self.init_of(machine)
        group = Freezer.of(self.places.control_group(machine)).members_file
        identity = [str(init.pid), str(init.started), group, user, directory]
        helper = [sys.executable, "-I", "-S", "-c", _ENTER, self._library()]
        return [*helper, *identity, *argv], {**ENVIRONMENT, **(environment or {})}

    def exec(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        user: str = "",
        timeout_s: float = 60.0,
        input_text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a machine to its end; output is text, the status is not checked.

        Raises: subprocess.TimeoutExpired (the command is dead then), UsageError without power.
        """
        process = self.popen(
            machine,
            argv,
            user=user,
            stdin=subprocess.PIPE if input_text is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                out, err = process.communicate(input_text, timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def _library(self) -> str:
        """Where the helper processes find the laboratory's own modules."""
        copy = self.places.software
        return str(copy if copy.is_dir() else Path(openmse.__file__).parent.parent)

    # ------------------------------------------------------------------ processes of machines

    def init_of(self, machine: str) -> procs.Process:
        """PID 1 of a machine, in the host's numbers. Raises: UsageError without power."""
        self.machine(machine)
        init = self.state().inits.get(machine)
        if init is None or not init.process.is_alive():
            raise UsageError(
                f"The machine {machine} has no power.",
                f"Switch it on: mse lab fault --name {self.name} power-on {machine}",
            )
        return init.process

    def has_power(self, machine: str) -> bool:
        """Whether the machine runs."""
        with suppress(UsageError):
            self.init_of(machine)
            return True
        return False

    def processes(self, machine: str) -> list[int]:
        """The host's pids of everything in the machine's PID namespace."""
        namespace = procs.namespace_of(self.init_of(machine).pid, "pid")
        return procs.pids_in("pid", [namespace] if namespace else [])

    def pids(self, machine: str) -> dict[str, int | None]:
        """The host's pid of each component of the product on a machine; None: does not run."""
        try:
            running = self.processes(machine)
        except UsageError:
            running = []
        return {component: find(component, running) for component in COMPONENTS}

    def path_in(self, machine: str, path: str) -> Path:
        """A file of a machine as a path of the host; valid while the machine has power.

        Absolute symbolic links inside it would lead to the host: read plain files only.
        """
        return Path(f"/proc/{self.init_of(machine).pid}/root", path.lstrip("/"))

    # ------------------------------------------------------------------ state and switch

    @contextmanager
    def _changing(self) -> Iterator[State]:
        """The locked state; saved at the end unless the block raises."""
        with state.locked(self.places):
            loaded = state.load(self.places)
            yield loaded
            state.save(self.places, loaded)

    def _apply(self, wanted: State) -> int:
        """Make the switch lose what ``wanted`` says; return the instant (ns)."""
        return self._run_nft(
            switch.render(wanted.dark, wanted.blocks, wanted.slow, has_direct=wanted.is_direct)
        )

    def _plug(self, loaded: State, machine: Machine) -> None:
        """Lay the cables of a machine whose network namespace is new."""
        switch.plug(self.places, machine)
        if loaded.is_direct and machine.kind is Kind.NODE:
            switch.plug_direct(self.places, machine)

    def _run_nft(self, batch: str) -> int:
        if self._nft is None:
            self._nft = Nft(self.places.netns(SWITCH))
        return self._nft.run(batch)

    # ------------------------------------------------------------------ power

    def _boot(
        self, loaded: State, machine: Machine, files: Sequence[InitialFile] = ()
    ) -> procs.Process:
        """Start a machine whose cable is plugged; record its PID 1 in ``loaded``."""
        group = Freezer.of(self.places.control_group(machine.name), create=True)
        spec = BootSpec(
            lab=self.name,
            netns=str(self.places.netns(machine.name)),
            root=self._root_spec(loaded, machine, files),
            programs=[]
            if loaded.is_bare
            else [(p.name, p.argv, p.needed) for p in programs_of(machine.kind)],
            environment={**ENVIRONMENT, "OPENMSE_LAB": self.name},
            control_group=group.members_file,
        )
        self.places.logs(machine.name).mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "openmse.lab.boot"],
            input=spec.to_json(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_POWER_DEADLINE_S,
            env={**os.environ, "PYTHONPATH": self._library()},
        )
        if done.returncode:
            raise DriverError(
                f"The machine {machine.name} did not boot: {done.stderr.strip()}.",
                f"Remove the laboratory: mse lab down --name {self.name}",
            )
        init = procs.Process.of(json.loads(done.stdout)["pid"])
        if init is None:
            raise DriverError(
                f"The machine {machine.name} stopped right after its boot.",
                f"Read {self.places.logs(machine.name)}/init.log",
            )
        loaded.inits[machine.name] = Pid(init.pid, init.started)
        loaded.boots[machine.name] = loaded.boots.get(machine.name, 0) + 1
        return init

    def _root_spec(self, loaded: State, machine: Machine, files: Sequence[InitialFile]) -> RootSpec:
        addresses = [(VIRTUAL_IP, "virtual-ip"), (VIRTUAL_IP6, "virtual-ip")]
        for other in self.machines.values():
            addresses += [(other.address, other.name), (other.address6, other.name)]
        root = self.places.run / f"root-{machine.name}"
        root.mkdir(exist_ok=True)
        return RootSpec(
            hostname=machine.name,
            root=str(root),
            image=str(self.places.image(machine.name)),
            logs=str(self.places.logs(machine.name)),
            share=str(self.places.share),
            package=loaded.package,
            venv=loaded.venv,
            extra=loaded.extra,
            database=loaded.database,
            addresses=addresses,
            files=files,
        )
