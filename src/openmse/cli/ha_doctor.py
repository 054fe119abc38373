"""``mse ha doctor``: everything that can be checked from here, with the next action of each."""

import click

from openmse.cli.doctor import Severity, findings
from openmse.cli.doctor_facts import gather
from openmse.cli.machine import config_path, connect, json_option, places, print_json, status
from openmse.errors import DaemonDownError, MseError
from openmse.node.control.snapshot import Snapshot


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look for what is wrong or will be. Exit 0: nothing serious, 1: an error, 4: no daemon."""
    picture: Snapshot | None = None
    down: MseError | None = None
    try:
        with connect(ctx) as client:
            picture = status(client)
    except DaemonDownError as error:
        down = error
    found = findings(picture, gather(config_path(ctx), places(ctx), down))
    if as_json:
        print_json(found)
    for finding in found if not as_json else ():
        click.echo(f"{finding.severity:<7} {finding.code}: {finding.sentence}")
        if finding.action:
            click.echo(f"        What to do: {finding.action}")
    if down is not None:
        ctx.exit(down.exit_code)
    if any(finding.severity is Severity.ERROR for finding in found):
        ctx.exit(1)
