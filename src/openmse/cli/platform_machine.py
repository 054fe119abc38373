"""What licence and status commands need: this engine, and the exchange with the other node."""

import os
from pathlib import Path

import click

from openmse.cli.machine import config_path, connect, status
from openmse.errors import DaemonDownError, MseError, UsageError
from openmse.node import group as group_file
from openmse.node.config import NodeConfig
from openmse.platform.engine import Engine
from openmse.platform.exchange import Exchanged, reconcile, right
from openmse.platform.services import ServiceFacts


def engine_of(ctx: click.Context, config: NodeConfig) -> Engine:
    """This engine as it is now. Raises MseError."""
    return Engine.open(config_path(ctx), config.places.state_dir, config.node.name)


def service_facts() -> ServiceFacts:
    """The service framework of this installation: the one place that names it."""
    return ServiceFacts()


def exchange(ctx: click.Context, config: NodeConfig, engine: Engine) -> Exchanged:
    """Have both nodes hold the same licences. Raises MseError; what is here stays as it is."""
    group = group_file.load(config.places.group)
    with connect(ctx) as client:
        return reconcile(engine, config, group, right(status(client)))


def exchanged(ctx: click.Context, config: NodeConfig) -> str:
    """The same after a change that is made already: what came of it, as a sentence."""
    try:
        return exchange(ctx, config, engine_of(ctx, config)).sentence
    except DaemonDownError:
        return (
            "The health monitor is stopped: 'mse license sync' tells the other node once it runs."
        )
    except MseError as error:
        return f"{error.sentence} {error.hint}".strip()


def operator() -> str:
    """Who runs the command, as lists of licences show it."""
    person = os.environ.get("SUDO_USER", "")
    return f"{person or 'root'} on the engine"


def file_bytes(path: Path, limit: int) -> bytes:
    """A file a person named; raises UsageError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        sentence = f"{path} cannot be read: {error.strerror}; nothing was changed."
        raise UsageError(sentence) from error
