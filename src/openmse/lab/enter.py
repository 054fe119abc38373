"""Runs one command inside a machine: in all its namespaces, on the caller's terminal.

``main(PID STARTED CGROUP USER DIRECTORY COMMAND…)``; the process stays outside and stands for the
command: it passes on signals and the exit status (128 + n for a signal), and the command dies with
it. The environment is passed through. Standard library only: this starts often.
"""

import os
import pwd
import signal
import sys
from typing import NoReturn

from openmse.lab import linux, procs

_FORWARDED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
    }
)
_KINDS = ("pid", "net", "ipc", "uts", "mnt")


def _fail(status: int, sentence: str) -> NoReturn:
    print(f"mse lab exec: {sentence}", file=sys.stderr, flush=True)
    os._exit(status)


def _run(namespaces: list[int], group: int, user: str, directory: str, argv: list[str]) -> NoReturn:
    """In the child, already inside the PID namespace: enter the rest and execute."""
    try:
        if group >= 0:
            os.write(group, b"0")
        for descriptor in namespaces:
            linux.setns(descriptor, 0)
        os.chdir(directory)
        os.umask(0o022)
        if user:
            account = pwd.getpwnam(user)
            os.initgroups(user, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        linux.die_with_parent(signal.SIGKILL)  # after setuid, which would clear it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED | {signal.SIGCHLD})
        os.execvp(argv[0], argv)
    except FileNotFoundError as error:
        _fail(127, f"{argv[0]}: {error.strerror}")
    except (OSError, KeyError) as error:
        _fail(126, f"{argv[0]}: {error}")


def _stand_for(child: int) -> int:
    """Pass signals on until the child ends; return its exit status.

    The terminal sends its signals to the child too: only those of a process (si_pid) are passed on.
    """
    while True:
        info = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            if info.si_pid:
                os.kill(child, info.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Run the command; return what the process should exit with."""
    pid, started, group_path, user, directory = arguments[:5]
    argv = arguments[5:]
    try:
        namespaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in _KINDS]
    except OSError:
        _fail(125, "the machine has no power.")
    if procs.Process.of(int(pid)) != procs.Process(int(pid), int(started)):
        _fail(125, "the machine has no power.")
    group = os.open(group_path, os.O_WRONLY) if group_path else -1
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    try:
        linux.setns(namespaces[0], linux.CLONE_NEWPID)
        child = os.fork()
    except OSError:  # its PID namespace has just ended
        _fail(125, "the machine has no power.")
    if child == 0:
        _run(namespaces[1:], group, user, directory, argv)
    for descriptor in (*namespaces, group):
        if descriptor >= 0:
            os.close(descriptor)  # or we would keep a machine's disk mounted after its power-off
    return _stand_for(child)
