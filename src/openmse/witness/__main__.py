"""``python -m openmse.witness --config FILE``: the witness process, until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import logging
import resource
import signal
import sys
from pathlib import Path

from openmse.errors import MseError, StateError
from openmse.node.control.server import ControlServer
from openmse.pki.pairing_server import PairingServer
from openmse.pki.password import PairingStore
from openmse.witness.config import DEFAULT_PATH, WitnessConfig, load
from openmse.witness.control import WitnessCommands
from openmse.witness.enrolment import Enrolment
from openmse.witness.server import WitnessServer

_LOG = logging.getLogger("openmse.witness")


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m openmse.witness", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        config = load(options.config)
        _allow_many_files()
        asyncio.run(serve(config))
    except MseError as error:
        print(f"{error.code}: {error.sentence}", file=sys.stderr)
        if error.hint:
            print(f"  What to do: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


async def serve(config: WitnessConfig) -> None:
    """Serve until SIGTERM or SIGINT; raises MseError where it cannot begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _make_directories(config)
    async with contextlib.AsyncExitStack() as stack:
        server = WitnessServer(config)
        stack.push_async_callback(server.close)
        await server.open()
        enrolment = PairingServer(
            PairingStore(config.password_file),
            Enrolment(config, server),
            bind=(config.witness.address, config.ports.pairing),
            is_one_shot=False,
            on_refused=_log_refused,
        )
        stack.push_async_callback(enrolment.close)
        await enrolment.open()
        addresses = {
            "tls": server.mesh.address,
            "udp": server.udp.address,
            "pairing": enrolment.address,
        }
        commands = WitnessCommands(config.witness.name, server, addresses)
        control = ControlServer(config.control_socket, commands)
        stack.push_async_callback(control.stop)
        await control.start()
        _LOG.info("witness_ready: %s, %d groups", config.witness.name, len(server.names))
        await stop.wait()
    _LOG.info("witness_stopped")


def _log_refused(error: MseError, address: str) -> None:
    _LOG.warning("enrolment_refused: from %s: %s", address, error.sentence)


def _make_directories(config: WitnessConfig) -> None:
    for path, mode in ((config.groups_dir, 0o700), (Path(config.paths.run_dir), 0o755)):
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"The directory {path} cannot be made: {error.strerror}.",
                "Check [paths] in the configuration file, and the disk.",
            ) from error


def _allow_many_files() -> None:
    """Each group holds a lock and two connections: raise the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
