"""``python -m openmse.api --config FILE``: the admin process, until SIGTERM or SIGINT."""

import argparse
import logging
import sys
from pathlib import Path

from openmse.api.config import DEFAULT_PATH, load
from openmse.errors import MseError
from openmse.node import config as node_config
from openmse.node.config_load import load as load_node


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m openmse.api", description=__doc__)
    parser.add_argument("--config", type=Path, default=node_config.DEFAULT_PATH, metavar="FILE")
    parser.add_argument("--management", type=Path, default=DEFAULT_PATH, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("openmse.api").setLevel(logging.INFO)
    # It warns of each malformed request: strangers must not be able to fill the journal.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    try:
        from openmse.api.server import run

        run(load_node(options.config), options.config, load(options.management))
    except MseError as error:
        print(f"{error.code}: {error.sentence}", file=sys.stderr)
        if error.hint:
            print(f"  What to do: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
