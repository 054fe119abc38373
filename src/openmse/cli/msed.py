"""The command ``msed``, and ``/etc/init.d/msed``: the engine's commands under the guide's name."""

import sys

import click

from openmse import __version__
from openmse.cli.engine import restart, show_status, start, stop
from openmse.cli.main import CONTEXT, run_command
from openmse.node.config import DEFAULT_PATH


@click.group(context_settings=CONTEXT)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    default=str(DEFAULT_PATH),
    envvar="OPENMSE_CONFIG",
    show_default=True,
    help="The configuration file of this machine.",
)
@click.version_option(__version__, prog_name="msed")
@click.pass_context
def msed(ctx: click.Context, config_path: str) -> None:
    """Start, stop and look at OpenMSE on this machine."""
    ctx.obj = config_path


msed.add_command(start)
msed.add_command(stop)
msed.add_command(restart)
msed.add_command(show_status)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    run_command(msed, "msed", arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
