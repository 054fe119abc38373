"""A laboratory: machines on a switch, on one computer. The library behind ``mse lab``.

``Laboratory.up(…)`` builds one, ``Laboratory.open(name)`` opens one that runs, ``down`` removes it.
Faults are methods (``faults.Faults``) that return the instant they took effect.
"""

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from openmse.errors import DriverError, UsageError
from openmse.lab import cleanup, provision, requirements, rootfs, software, state, status, switch
from openmse.lab.faults import Faults
from openmse.lab.state import State
from openmse.lab.topology import IMAGE_ROOT, RUN_ROOT, Places, Topology, machines_of

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to build. ``is_bare``: machines without the product's programs, nothing paired.

    ``is_direct``: the two nodes have a cable of their own, eth1 to eth1.
    """

    topology: Topology = Topology.PAIR
    failover_wait_s: float = 5.0
    is_direct: bool = False
    is_bare: bool = False
    is_kept_on_failure: bool = False


class Laboratory(Faults):
    """One laboratory."""

    @classmethod
    def open(cls, name: str) -> Self:
        """The laboratory called ``name``. Raises: UsageError if there is none."""
        places = Places.of(name)
        requirements.check_root()
        requirements.extend_path()
        return cls(places, state.load(places))

    @classmethod
    def up(cls, name: str, wanted: Wanted, progress: Progress = lambda _: None) -> Self:
        """Build a laboratory, pair its nodes, and return once they are in SYNC.

        If that fails nothing is left behind, unless ``is_kept_on_failure``.
        Raises: UsageError if the name is taken, DriverError, PairingError.
        """
        places = Places.of(name)
        requirements.check(str(IMAGE_ROOT))
        taken = cleanup.remains(places)
        if taken:
            raise UsageError(
                f"There is a laboratory '{name}' already, or what is left of one: {taken[0]}.",
                f"Remove it (mse lab down --name {name}) or choose another name (--name).",
            )
        try:
            laboratory = cls._build(places, wanted, progress)
            if not wanted.is_bare:
                provision.pair(laboratory, progress)
            with laboratory._changing() as loaded:
                loaded.is_ready = True
        except BaseException:
            if not wanted.is_kept_on_failure:
                with contextlib.suppress(DriverError):
                    cleanup.down(places)
            raise
        return laboratory

    @classmethod
    def _build(cls, places: Places, wanted: Wanted, progress: Progress) -> Self:
        for path in (RUN_ROOT, places.run, places.share, IMAGE_ROOT, places.images):
            path.mkdir(mode=0o755, exist_ok=True)
            path.chmod(0o755)
        loaded = State(
            name=places.lab,
            topology=wanted.topology,
            is_bare=wanted.is_bare,
            failover_wait_s=wanted.failover_wait_s,
            is_direct=wanted.is_direct,
        )
        state.save(places, loaded)
        laboratory = cls(places, loaded)
        with state.locked(places):
            progress("copying the product")
            trees = software.prepare(places.software)
            loaded.package, loaded.venv = str(trees.package), str(trees.venv)
            loaded.extra, loaded.database = list(trees.extra), trees.database
            progress("building the switch")
            switch.build(places)
            laboratory._run_nft(switch.rules())
            for machine in machines_of(wanted.topology).values():
                progress(f"booting {machine.name} ({machine.address})")
                laboratory._make_machine(loaded, machine.name)
                state.save(places, loaded)
        return laboratory

    def _make_machine(self, loaded: State, name: str) -> None:
        machine = self.machines[name]
        try:
            rootfs.make_disk(self.places.image(name), machine.disk_bytes)
        except subprocess.CalledProcessError as error:
            raise DriverError(f"The disk of {name} could not be made: {error.stderr}") from error
        switch.replace_namespace(self.places, name)
        self._plug(loaded, machine)
        files = () if loaded.is_bare else provision.files_of(self, loaded, machine)
        self._boot(loaded, machine, files)

    def down(self) -> None:
        """Remove the laboratory."""
        self.close()
        cleanup.down(self.places)

    def status(self) -> dict[str, Any]:
        """What ``mse lab status --json`` prints; machines that do not answer have nulls."""
        return status.of(self)
