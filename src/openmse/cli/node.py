"""``mse node``: prepare this machine, and stop its daemon on purpose."""

import time

import click

from openmse.cli.machine import connect, load_config, perform, require_root, tell
from openmse.cli.passwords import password
from openmse.errors import CommandFailed, CommandRefused, DaemonDownError
from openmse.install.engine.look import guard_of, monitor_of
from openmse.node import group
from openmse.node.config import NodeConfig, Role
from openmse.node.control.commands import StopArgs
from openmse.pki.password import PairingStore
from openmse.setup.directories import prepare

STOPPED_WITHIN_S = 90.0
"""A handover's checkpoint of 60 s, and the stops themselves."""


@click.group()
def node() -> None:
    """Prepare this machine, stop its daemon on purpose."""


@node.command()
@click.option(
    "--pairing-password-file", default="", metavar="FILE", help="First line ('-': stdin)."
)
@click.pass_context
def init(ctx: click.Context, pairing_password_file: str) -> None:
    """Prepare the directories; on a secondary also the password that its primary must know.

    May be repeated as long as this node is not paired. A primary makes its database and its
    register when the daemon is started.
    """
    require_root("mse node init")
    config = load_config(ctx)
    places = config.places
    if group.load(places.group) is not None:
        raise CommandRefused(
            "This node is paired already, so nothing was changed.",
            "'mse ha unpair' dissolves the pair first.",
        )
    secret = ""
    if config.node.role is Role.SECONDARY or pairing_password_file:
        secret = password(pairing_password_file, "Pairing password", confirm=True)
    prepare(places)
    if secret and config.node.role is Role.SECONDARY:
        PairingStore(places.pairing_password).set_password(secret)
    click.echo(_next(config))


def _next(config: NodeConfig) -> str:
    if config.node.role is Role.SECONDARY:
        return (
            f"{config.node.name} is prepared as the secondary. Start the daemon; then run 'mse ha "
            f"pair --peer {config.node.host}' on the primary with the same password."
        )
    return (
        f"{config.node.name} is prepared as the primary. Start the daemon; then pair it with 'mse "
        "ha pair --peer ADDRESS'."
    )


@node.command()
@click.option("--handover", is_flag=True, help="Hand the service over to the other node first.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it has stopped.")
@click.pass_context
def stop(ctx: click.Context, handover: bool, no_wait: bool) -> None:
    """Stop this node on purpose, PostgreSQL included (GRACEFUL_SHUTDOWN); nobody takes over.

    It stays stopped until its service is started again, or the machine is.
    """
    with connect(ctx) as client:
        tell(perform(client, "stop", StopArgs(handover)))
    if not no_wait:
        _wait_stopped(ctx)


def _wait_stopped(ctx: click.Context) -> None:
    """Until nothing of it runs: the health monitor hangs up before its last work, its guard ends
    after it, and whoever starts the node or moves its files then must not meet them."""
    run_dir = load_config(ctx).paths.run_dir
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while time.monotonic() < deadline:
        if not (_answers(ctx) or monitor_of(run_dir) or guard_of(run_dir)):
            click.echo("It has stopped.")
            return
        time.sleep(0.1)
    raise CommandFailed(
        f"It has not stopped within {STOPPED_WITHIN_S:.0f} s; it goes on trying.",
        "'mse ha status' shows what it waits for.",
    )


def _answers(ctx: click.Context) -> bool:
    try:
        connect(ctx).close()
    except DaemonDownError:
        return False
    return True
