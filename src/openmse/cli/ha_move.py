"""Commands that move the service, or say who may."""

import click

from openmse.cli.machine import connect, perform, status, tell
from openmse.errors import UsageError
from openmse.node.control.commands import MaintenanceArgs, SwitchoverArgs, TakeoverArgs
from openmse.node.control.snapshot import Snapshot


@click.command()
@click.option(
    "--to", default="", metavar="NODE", help="The node that shall own; default the other."
)
@click.pass_context
def switchover(ctx: click.Context, to: str) -> None:
    """Hand the service over, without loss; can be asked on either node."""
    with connect(ctx) as client:
        tell(perform(client, "switchover", SwitchoverArgs(to)))


@click.command()
@click.pass_context
def failback(ctx: click.Context) -> None:
    """Hand the service back to the configured primary, without loss."""
    with connect(ctx) as client:
        tell(perform(client, "failback"))


@click.command()
@click.option("--force", is_flag=True, help="Needed: this is the way that may lose data.")
@click.option(
    "--yes-i-lose-data",
    "confirmed_for",
    default="",
    metavar="NODE",
    help="For scripts: this node's name, instead of the question.",
)
@click.pass_context
def takeover(ctx: click.Context, force: bool, confirmed_for: str) -> None:
    """Make this node the owner although the other cannot be asked.

    Shows what may be lost and wants this node's name typed. The old machine WILL SERVE if it is
    started without seeing this one: power it off or isolate it first.
    """
    with connect(ctx) as client:
        picture = status(client)
        if not force:
            raise UsageError(
                "A takeover without --force does not exist: where it is safe it happens by itself, "
                "or is a switchover. Nothing was changed.",
                "'mse ha switchover' loses nothing; 'mse ha takeover --force' may.",
            )
        click.echo(_warning(picture), err=True)
        if not confirmed_for:
            confirmed_for = click.prompt(
                f"Type the name of this node ({picture.node}) to take over",
                default="",
                show_default=False,
                err=True,
            )
        if confirmed_for != picture.node:
            raise UsageError(
                f"'{confirmed_for}' is not the name of this node, so nothing was changed.",
                f"This node is {picture.node}.",
            )
        tell(perform(client, "takeover", TakeoverArgs(confirmed_for)))


def _warning(picture: Snapshot) -> str:
    if picture.loss is None:
        return f"{picture.node} owns already."
    return (
        f"Possible loss: {picture.loss.sentence}\n"
        f"{picture.loss.owner} will serve if it is started without seeing this node: power it off "
        "or isolate it first. What it accepts meanwhile is kept aside when it rejoins."
    )


@click.command()
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.pass_context
def maintenance(ctx: click.Context, switch: str) -> None:
    """While on, the owner serves alone and nobody takes over."""
    with connect(ctx) as client:
        tell(perform(client, "maintenance", MaintenanceArgs(switch == "on")))


@click.command("confirm-alone")
@click.pass_context
def confirm_alone(ctx: click.Context) -> None:
    """Serve although nobody else answered when this node booted (boot_alone = ask)."""
    with connect(ctx) as client:
        tell(perform(client, "confirm_alone"))


@click.command("release-protect")
@click.pass_context
def release_protect(ctx: click.Context) -> None:
    """In protect mode: let writes go on without the other node."""
    with connect(ctx) as client:
        tell(perform(client, "release_protect"))


@click.command()
@click.pass_context
def rejoin(ctx: click.Context) -> None:
    """Leave the quarantine and try the rejoin again."""
    with connect(ctx) as client:
        tell(perform(client, "rejoin"))
