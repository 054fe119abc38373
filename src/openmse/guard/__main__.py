"""``python -m openmse.guard --run-dir DIR [--stop-timeout S] [--lock-memory] -- COMMAND...``"""

import os
import sys

from openmse.guard import system
from openmse.guard.supervisor import AlreadyGuarded, Supervisor, log

_USAGE = (
    "usage: python -m openmse.guard --run-dir DIR [--stop-timeout SECONDS] [--lock-memory]"
    " -- COMMAND...\n"
)
_STOP_TIMEOUT_S = 60.0


def main(arguments: list[str]) -> int:
    """Run the guard; exit status 2 for a wrong call, 3 if the directory is already guarded."""
    try:
        at = arguments.index("--")
        options, command = arguments[:at], arguments[at + 1 :]
        run_dir = options[options.index("--run-dir") + 1]
        stop_timeout_s = _STOP_TIMEOUT_S
        if "--stop-timeout" in options:
            stop_timeout_s = float(options[options.index("--stop-timeout") + 1])
        if not command:
            raise ValueError
    except (ValueError, IndexError):
        sys.stderr.write(_USAGE)
        return 2
    system.become_subreaper()
    system.raise_priority()
    if "--lock-memory" in options and not system.lock_memory():
        log("memory_not_locked")
    try:
        os.makedirs(run_dir, mode=0o755, exist_ok=True)
        supervisor = Supervisor(run_dir, command, stop_timeout_ns=int(stop_timeout_s * 1e9))
        return supervisor.run()
    except AlreadyGuarded:
        sys.stderr.write(
            f"Another guard already watches {run_dir}; this one ends. "
            "Stop that one first if you want to replace it.\n"
        )
        return 3
    except OSError as error:
        sys.stderr.write(f"The guard cannot work with {run_dir} or start its command: {error}.\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
