"""``mse ha status``: the picture for people, for programs, once or continuously."""

import click
import msgspec

from openmse.cli.machine import connect, json_option, print_json, snapshots
from openmse.cli.machine import status as read_status
from openmse.cli.status_text import lines


@click.command()
@click.option("--watch", is_flag=True, help="Go on until interrupted; at each change.")
@json_option
@click.pass_context
def status(ctx: click.Context, watch: bool, as_json: bool) -> None:
    """Who owns, whether the pair is in step, and what stands in the way of what.

    With --watch and --json: one line of JSON for each change.
    """
    with connect(ctx) as client:
        if not watch:
            picture = read_status(client)
            if as_json:
                print_json(picture)
            else:
                click.echo("\n".join(lines(picture)))
            return
        for picture in snapshots(client, 1.0):
            if as_json:
                click.echo(msgspec.json.encode(picture).decode())
            else:
                click.clear()
                click.echo("\n".join([*lines(picture), "", "Ctrl-C ends."]))
