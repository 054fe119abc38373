"""What commands need of this machine: its paths, its daemon, and the rights to use them."""

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from openmse.errors import ConfigError, PrivilegeError, StateError
from openmse.node.config import DEFAULT_PATH, NodeConfig, PathsSection, Places
from openmse.node.control.client import ControlClient, decode
from openmse.node.control.commands import Done, Progress
from openmse.node.control.snapshot import Snapshot

OPERATION_WITHIN_S = 180.0
"""Between two lines of the answer to an operation; the core's own deadlines are shorter."""


def config_path(ctx: click.Context) -> Path:
    """The configuration file that the command line names."""
    found = ctx.find_object(str)
    return Path(found) if found else DEFAULT_PATH


def load_config(ctx: click.Context) -> NodeConfig:
    """The checked configuration; raises ConfigError."""
    from openmse.node.config_load import load

    path = config_path(ctx)
    if not path.exists():
        raise ConfigError(
            f"There is no configuration file {path}, so this machine is not set up.",
            "'mse setup' asks what it needs to know and writes it; --config names another file.",
        )
    return load(path)


def places(ctx: click.Context) -> Places:
    """Where this machine's files are, as far as that can be known from a file with faults.

    Whoever is called at night must see the status although somebody left a mistake in the file.
    """
    try:
        data: Any = tomllib.loads(config_path(ctx).read_text("utf-8")).get("paths", {})
        section = msgspec.convert({k: v for k, v in data.items() if k in _PATHS}, PathsSection)
    except (OSError, ValueError, AttributeError, msgspec.MsgspecError):
        section = PathsSection()
    return Places(Path(section.state_dir), Path(section.run_dir))


_PATHS = ("state_dir", "run_dir")


def connect(ctx: click.Context) -> ControlClient:
    """A connection to this machine's daemon; raises DaemonDownError or PrivilegeError."""
    return ControlClient(places(ctx).control_socket)


def require_root(what: str) -> None:
    """Raise PrivilegeError unless run as root."""
    if os.geteuid() != 0:
        raise PrivilegeError(
            f"'{what}' needs root, since it changes this machine; nothing was changed.",
            f"Run 'sudo {what}'.",
        )


@contextmanager
def reading_as_root(what: str) -> Iterator[None]:
    """Raise PrivilegeError where a file of the state is only for root, not that a disk failed."""
    try:
        yield
    except (StateError, PrivilegeError, PermissionError) as error:
        if not any(isinstance(one, PermissionError) for one in (error, error.__cause__)):
            raise
        raise PrivilegeError(
            f"'{what}' needs root here, since it reads what only root may; nothing was changed.",
            f"Run 'sudo {what}'.",
        ) from error


def status(client: ControlClient) -> Snapshot:
    """The picture of this moment."""
    found: Snapshot = client.call("status", type=Snapshot)
    return found


def perform(client: ControlClient, command: str, args: msgspec.Struct | None = None) -> Done:
    """Ask for a change, show its steps as they are reached, return its end. Raises MseError."""
    done = Done("")
    for reply in client.stream(command, args, within_s=OPERATION_WITHIN_S):
        if reply.event is not None:
            step: Progress = decode(reply.event, Progress)
            click.echo(f"  {step.ms:>8.0f} ms  {step.step}", err=True)
        elif reply.result is not None:
            done = decode(reply.result, Done)
    return done


def tell(done: Done) -> None:
    """Print what a change has come to."""
    click.echo(done.sentence)


def snapshots(client: ControlClient, every_s: float) -> Iterator[Snapshot]:
    """A picture at each change, without end."""
    from openmse.node.control.commands import WatchArgs

    for reply in client.stream("watch", WatchArgs(every_s), within_s=every_s + 10):
        if reply.event is not None:
            yield decode(reply.event, Snapshot)


def print_json(value: Any) -> None:
    """A value as indented JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
