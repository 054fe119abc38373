"""PID 1 of a machine: starts its boot programs, restarts those that fail, reaps every orphan.

One that ends with status 0 was stopped on purpose: it stays so until the next boot, or until
``kill -HUP 1`` (systemd: Restart=on-failure, and ``systemctl start``).

Executed by path inside the machine (``init.py LAB MACHINE CONFIG``); standard library only, so that
a machine boots fast and a broken product still leaves a machine one can look into.
"""

import json
import os
import signal
import sys
import time

RESTART_AFTER_S = 0.1
"""As systemd's RestartSec= default."""
LOOK_AGAIN_AFTER_S = 0.05
_LOG_LIMIT_BYTES = 32 * 1024**2


class Supervisor:
    """The boot programs: their pids, and when those that ended are due again (monotonic s)."""

    def __init__(
        self, programs: list[tuple[str, list[str], str]], environment: dict[str, str]
    ) -> None:
        """``programs``: (name, argv, path that must exist before it is started, or '')."""
        self._programs = {name: (argv, needed) for name, argv, needed in programs}
        self._environment = environment
        self._running: dict[int, str] = {}
        self._due = dict.fromkeys(self._programs, 0.0)
        self._stopped: set[str] = set()

    def start_due(self) -> float:
        """Start what is due; return the seconds until the next one is."""
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            if os.path.exists(self._programs[name][1] or "/"):
                del self._due[name]
                self._start(name)
            else:  # not set up yet
                self._due[name] = now + LOOK_AGAIN_AFTER_S
        return max(0.0, min(self._due.values(), default=now + 60.0) - now)

    def reap(self) -> None:
        """Collect every child that has ended, ours or inherited."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._running.pop(pid, None)
            if name is not None:
                code = os.waitstatus_to_exitcode(status)
                _say(f"{name} (pid {pid}) ended with {code}")
                if code:
                    self._due[name] = time.monotonic() + RESTART_AFTER_S
                else:
                    self._stopped.add(name)

    def start_stopped(self) -> None:
        """Start what was stopped on purpose, as ``systemctl start`` would."""
        for name in self._stopped:
            self._due[name] = 0.0
        self._stopped.clear()

    def _start(self, name: str) -> None:
        argv, _ = self._programs[name]
        log = f"/var/log/console/{name}.log"
        _rotate(log)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            pid = os.posix_spawn(
                argv[0], argv, self._environment, file_actions=actions, setsid=True, setsigmask=[]
            )
        except OSError as error:
            _say(f"{name} cannot be started: {error}")
            self._due[name] = time.monotonic() + 1.0
            return
        self._running[pid] = name
        _say(f"{name} started as pid {pid}")


def _say(sentence: str) -> None:
    boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    print(f"{boot_s:.3f} init: {sentence}", flush=True)


def _rotate(log: str) -> None:
    """Keep one older log, so that a program that dies in a loop cannot fill the host's disk."""
    if os.path.exists(log) and os.path.getsize(log) > _LOG_LIMIT_BYTES:
        os.replace(log, f"{log}.1")


def main() -> None:
    """Boot, then serve for ever; a machine ends by losing its power."""
    lab, machine, path = sys.argv[1:4]
    awaited = {signal.SIGCHLD, signal.SIGHUP}
    signal.signal(signal.SIGHUP, lambda *_: None)  # or PID 1 would not be sent it at all
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    with open(path) as file:
        config = json.load(file)
    supervisor = Supervisor(config["programs"], config["environment"])
    _say(f"machine {machine} of laboratory {lab} boots")
    while True:
        wait_s = supervisor.start_due()
        found = signal.sigtimedwait(awaited, wait_s)
        if found is not None and found.si_signo == signal.SIGHUP:
            supervisor.start_stopped()
        supervisor.reap()


if __name__ == "__main__":
    main()
