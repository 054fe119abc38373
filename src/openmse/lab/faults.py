"""The faults: power, cables, processes, disks.

Every method returns the CLOCK_BOOTTIME ns at which the fault was in effect: the first instant at
which the kernel had confirmed it (cuts are one nftables transaction, signals one system call).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from openmse.errors import CommandRefused, DriverError, UsageError
from openmse.lab import linux, procs, switch
from openmse.lab.core import Core
from openmse.lab.freezer import Freezer
from openmse.lab.programs import GUARD, HEALTH_MONITOR, POSTGRES, PYTHON, WITNESS, find
from openmse.lab.state import Block, Flap, Pid, Slow, State, locked
from openmse.lab.topology import SWITCH

KILLABLE: Final = (HEALTH_MONITOR, GUARD, POSTGRES, WITNESS)
FREEZABLE: Final = (HEALTH_MONITOR, POSTGRES, WITNESS, "all")
BALLAST: Final = "/opt/openmse/src/openmse/lab/ballast.py"
_DEADLINE_S = 30.0


class Faults(Core):
    """The faults of one laboratory."""

    # ------------------------------------------------------------------ power

    def power_off(self, machine: str) -> int:
        """Take a machine's power away; return the instant its cable went silent.

        The cable is cut first, so no FIN or RST of the dying processes leaves. Then the disk stops
        as in a power cut (what was not synced is lost: ``linux.lose_page_cache``), then every
        process is killed. On return nothing of the machine is left but its disk.
        """
        init = self.init_of(machine)
        with self._changing() as state:
            disk = os.open(self.path_in(machine, "/var"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                state.dark = sorted({*state.dark, machine})
                at = self._apply(state)
                linux.lose_page_cache(disk)
                init.signal(signal.SIGKILL)
            finally:
                os.close(disk)
            state.inits.pop(machine, None)
            Freezer.of(self.places.control_group(machine)).thaw()  # or v1 keeps it from dying
            self._await(lambda: init.wait_gone(0.01), f"the processes of {machine} to end")
            self._stop_wire(state, machine)
            image = str(self.places.image(machine))
            self._await(lambda: not linux.loop_devices_of(image), f"the disk of {machine}")
            switch.replace_namespace(self.places, machine)
        return at

    def power_on(self, machine: str) -> int:
        """Give a machine its power back: a boot with an empty /run and the disk it had."""
        spec = self.machine(machine)
        if self.has_power(machine):
            raise UsageError(f"The machine {machine} already has power.")
        with self._changing() as state:
            self._settle_dead(state, machine)
            switch.replace_namespace(self.places, machine)
            self._plug(state, spec)
            state.dark = [name for name in state.dark if name != machine]
            if machine in state.slow and state.slow[machine].delay_ms:
                self._start_wire(state, machine)
            self._apply(state)
            at = linux.now_ns()
            self._boot(state, spec)
        return at

    def _settle_dead(self, state: State, machine: str) -> None:
        """Finish what is left of a machine that ended by itself or in a half-done power-off."""
        state.dark = sorted({*state.dark, machine})
        state.inits.pop(machine, None)
        self._stop_wire(state, machine)
        image = str(self.places.image(machine))
        self._await(lambda: not linux.loop_devices_of(image), f"the disk of {machine}")

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                raise DriverError(
                    f"Waited {_DEADLINE_S:.0f} s in vain for {what}.",
                    "Something outside the laboratory may be inside the machine's namespaces.",
                )
            time.sleep(0.002)

    # ------------------------------------------------------------------ cables

    def cut(self, machine: str, other: str = "", only: str = "") -> int:
        """Lose everything (or ``only`` one of ``switch.ONLY``) between two machines.

        Without ``other``: between ``machine`` and all others. Both directions.
        """
        if only and only not in switch.ONLY:
            raise UsageError(f"'{only}' cannot be cut by itself; {' and '.join(switch.ONLY)} can.")
        if only == "direct" and not self.state().is_direct:
            raise UsageError(
                f"The laboratory '{self.name}' has no direct connection that could be cut.",
                f"Build one that has: mse lab up --direct --name {self.name}",
            )
        return self._block([*self._pairs(machine, other)], only, is_both=True)

    def one_way(self, machine: str, other: str) -> int:
        """Lose what ``machine`` sends to ``other``; what comes back passes."""
        return self._block(self._pairs(machine, other), "", is_both=False)

    def heal(self, machine: str = "", other: str = "") -> int:
        """Undo cuts, flapping and slowness: of all cables, one machine's, or one connection."""
        for name in filter(None, (machine, other)):
            self.machine(name)
        with self._changing() as state:
            for flap in [f for f in state.flaps if _concerns(machine, other, f.machine, f.other)]:
                flap.process.process.kill_and_wait(_DEADLINE_S)
                state.flaps.remove(flap)
            state.blocks = [
                block
                for block in state.blocks
                if not _concerns(machine, other, block.source, block.target)
            ]
            for name in list(state.slow) if not other else []:
                if machine in ("", name):
                    self._stop_wire(state, name)
                    del state.slow[name]
            return self._apply(state)

    def slow(self, machine: str, delay_ms: float = 0.0, loss_percent: float = 0.0) -> int:
        """Delay every frame of a machine by ``delay_ms`` each way and lose a share each way.

        Both 0 undoes it.
        """
        if not 0 <= delay_ms <= 10_000 or not 0 <= loss_percent <= 100:
            raise UsageError(
                f"A cable cannot have a delay of {delay_ms} ms and a loss of {loss_percent} %.",
                "The delay is 0 to 10000 ms, the loss 0 to 100 %.",
            )
        self.init_of(machine)
        with self._changing() as state:
            self._stop_wire(state, machine)
            state.slow.pop(machine, None)
            if delay_ms or loss_percent:
                state.slow[machine] = Slow(delay_ms, loss_percent)
            if delay_ms:
                self._start_wire(state, machine)
            return self._apply(state)

    def flap(self, machine: str, other: str, *, period_s: float = 1.0, times: int = 0) -> int:
        """Cut and heal one connection in the background, half of ``period_s`` each.

        ``times`` bounds the cuts, 0 means until healed. Returns the instant of the start.
        """
        self._pairs(machine, other)
        if period_s < 0.02 or times < 0:
            raise UsageError("A connection flaps at most 50 times a second.")
        self.heal(machine, other)
        command = ["-m", "openmse.lab.flap", self.name, machine, other, str(period_s), str(times)]
        process = self._background(command)
        with self._changing() as state:
            state.flaps.append(Flap(machine, other, process))
        return linux.now_ns()

    def cut_quickly(self, blocks: list[Block]) -> int:
        """For the flapper: lose ``blocks`` on top of what is remembered, remembering nothing."""
        with locked(self.places):
            state = self.state()
            state.blocks = [*state.blocks, *blocks]
            return self._apply(state)

    def _pairs(self, machine: str, other: str) -> list[tuple[str, str]]:
        self.machine(machine)
        if not other:
            return [(machine, name) for name in self.machines if name != machine]
        self.machine(other)
        if other == machine:
            raise UsageError(f"{machine} has no cable to itself.", "Name two machines.")
        return [(machine, other)]

    def _block(self, pairs: list[tuple[str, str]], only: str, *, is_both: bool) -> int:
        blocks = {Block(source, target, only) for source, target in pairs}
        if is_both:
            blocks |= {Block(target, source, only) for source, target in pairs}
        with self._changing() as state:
            state.blocks = sorted({*state.blocks, *blocks})
            return self._apply(state)

    def _start_wire(self, state: State, machine: str) -> None:
        fault = state.slow[machine]
        netns = str(self.places.netns(SWITCH))
        process = self._background(
            ["-m", "openmse.lab.wire", netns, machine, str(fault.delay_ms)], ready="ready"
        )
        state.slow[machine] = Slow(fault.delay_ms, fault.loss_percent, process)

    def _stop_wire(self, state: State, machine: str) -> None:
        """End a machine's wire; the port is back on the bridge, also if the wire had died."""
        fault = state.slow.get(machine)
        if fault is None or fault.wire is None:
            return
        wire = fault.wire.process
        if wire.signal(signal.SIGTERM) and not wire.wait_gone(5.0):
            wire.kill_and_wait(5.0)
        state.slow[machine] = Slow(fault.delay_ms, fault.loss_percent)
        if machine not in state.dark:
            switch.reattach(self.places, machine)

    def _background(self, command: list[str], ready: str = "") -> Pid:
        """Start a helper that outlives us; wait for its word ``ready`` if there is one."""
        log = open(self.places.images / "helpers.log", "ab")  # noqa: SIM115
        with log:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if ready else log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": self._library()},
            )
        if ready:
            assert process.stdout is not None
            with process.stdout:
                word = process.stdout.readline().decode().strip()
            if word != ready:
                raise DriverError(
                    f"A helper of the laboratory did not start: {' '.join(command)}.",
                    f"Read {self.places.images}/helpers.log",
                )
        identity = procs.Process.of(process.pid)
        threading.Thread(target=process.wait, daemon=True).start()  # reaps it while we live
        if identity is None:
            raise DriverError(f"A helper of the laboratory ended at once: {' '.join(command)}.")
        return Pid(identity.pid, identity.started)

    # ------------------------------------------------------------------ processes

    def kill(self, machine: str, component: str) -> int:
        """SIGKILL one component; ``postgres`` is the postmaster alone."""
        target = self._component(machine, component, KILLABLE)
        target.signal(signal.SIGKILL)
        return linux.now_ns()

    def freeze(self, machine: str, what: str) -> int:
        """Stop a component without its knowledge: SIGSTOP, or the freezer for ``all``.

        ``postgres`` includes its children. ``all`` stops the machine's programs, not its kernel:
        it still answers ping and ARP.
        """
        if what == "all":
            return self._freeze_all(machine)
        target = self._component(machine, what, FREEZABLE)
        self._stop([target])
        at = linux.now_ns()
        if what == POSTGRES:  # the parent first: then no new children can appear
            self._stop(_identities(procs.descendants_of(target.pid)))
        return at

    def thaw(self, machine: str, what: str) -> int:
        """Let go on what ``freeze`` stopped."""
        if what == "all":
            group = Freezer.of(self.places.control_group(machine))
            group.thaw()
            _signal_all(self.processes(machine), signal.SIGCONT)
            return linux.now_ns()
        target = self._component(machine, what, FREEZABLE)
        if what == POSTGRES:
            _signal_all(procs.descendants_of(target.pid), signal.SIGCONT)
        target.signal(signal.SIGCONT)
        return linux.now_ns()

    def _freeze_all(self, machine: str) -> int:
        init = self.init_of(machine)
        group = Freezer.of(self.places.control_group(machine))
        if group.path is not None:
            group.freeze()
            self._await(group.is_frozen, f"the processes of {machine} to freeze")
            return linux.now_ns()
        stopped: set[int] = set()
        while running := set(self.processes(machine)) - stopped - {init.pid}:
            self._stop(_identities(sorted(running)))
            stopped |= running
        return linux.now_ns()

    def _stop(self, processes: list[procs.Process]) -> None:
        """SIGSTOP, and wait until none of them runs (one in a disk's queue takes a moment)."""
        for process in processes:
            process.signal(signal.SIGSTOP)
        self._await(lambda: all(p.has_stopped() for p in processes), "processes to stop")

    def _component(self, machine: str, component: str, allowed: tuple[str, ...]) -> procs.Process:
        if component not in allowed:
            raise UsageError(f"'{component}' is not one of: {', '.join(allowed)}.")
        pid = find(component, self.processes(machine))
        process = procs.Process.of(pid) if pid else None
        if process is None:
            raise CommandRefused(f"{component} does not run on {machine}; nothing was done.")
        return process

    # ------------------------------------------------------------------ disk and clock

    def fill_disk(self, machine: str, *, is_reserve_too: bool = False) -> int:
        """Fill a machine's disk as its unprivileged user can: to the reserve that root has left.

        ``is_reserve_too``: fill that as well, so that nobody can write.
        """
        return self._ballast(machine, "fill", "" if is_reserve_too else "openmse")

    def free_disk(self, machine: str) -> int:
        """Undo ``fill_disk``."""
        return self._ballast(machine, "free", "")

    def _ballast(self, machine: str, verb: str, user: str) -> int:
        done = self.exec(machine, [PYTHON, "-I", BALLAST, verb], user=user)
        if done.returncode:
            raise DriverError(f"The disk of {machine} could not be changed: {done.stderr.strip()}")
        return linux.now_ns()

    def clock(self, machine: str, offset_s: float) -> int:
        """Refused: machines share the host's wall clock."""
        self.machine(machine)
        raise CommandRefused(
            f"The wall clock of {machine} cannot be moved by {offset_s:+g} s: Linux has no "
            "namespace for it, so that would move the clock of this whole computer.",
            "Nothing in the protocol rests on the wall clock; clocks that drift and jump are tried "
            "by the simulator.",
        )


def _concerns(machine: str, other: str, source: str, target: str) -> bool:
    """Whether a fault between ``source`` and ``target`` is meant by (machine, other)."""
    wanted = {name for name in (machine, other) if name}
    return wanted <= {source, target}


def _signal_all(pids: list[int], number: int) -> None:
    for process in _identities(pids):
        process.signal(number)


def _identities(pids: list[int]) -> list[procs.Process]:
    return [process for process in map(procs.Process.of, pids) if process is not None]
