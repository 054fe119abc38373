"""``python -m openmse.console``: the console as a process."""

import argparse
import sys
from pathlib import Path

from openmse.console.serve import serve
from openmse.console.settings import DEFAULT_PATH, load
from openmse.errors import MseError


def main() -> None:
    """Run until SIGTERM; errors as full sentences on standard error."""
    parser = argparse.ArgumentParser(prog="python -m openmse.console", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE")
    parser.add_argument(
        "--fd", type=int, default=-1, metavar="N", help="A listening socket that is open already."
    )
    options = parser.parse_args()
    try:
        serve(load(options.config), options.fd)
    except MseError as error:
        print(f"{error.code}: {error.sentence}", file=sys.stderr)
        if error.hint:
            print(f"  What to do: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
