"""The command ``mse``: the tree of commands, loaded only as far as needed, and the exit codes.

0 done · 1 failed · 2 wrong usage or configuration · 3 refused by a rule · 4 the daemon does not
run. Errors go to standard error as full sentences with a stable code and what to do next.
"""

import errno
import os
import sys

import click

from openmse import __version__
from openmse.cli.lazy import LazyGroup
from openmse.errors import DriverError, MseError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "ha": ("openmse.cli.ha:ha", "Status, switchover, takeover, pairing and rehearsals."),
        "config": ("openmse.cli.config:config", "Check and show the configuration file."),
        "node": ("openmse.cli.node:node", "Prepare this machine, stop its daemon on purpose."),
        "admin": ("openmse.cli.admin:admin", "The management API: run it, users, tokens, console."),
        "setup": ("openmse.cli.setup:setup", "Set up this machine: the wizard."),
        "witness": ("openmse.cli.witness:witness", "Run and manage the third vote."),
        "console": ("openmse.cli.console:console", "Run, save and restore the web console."),
        "license": ("openmse.cli.license:license", "Licences: what is granted, install, issue."),
        "server-info": ("openmse.cli.info:getserverinfo", "What getserverinfo shows."),
        "ha-info": ("openmse.cli.info:gethainfo", "What gethainfo shows."),
        "engine": ("openmse.cli.engine:engine", "Start, stop and look at what runs here."),
        "install": ("openmse.cli.install:install", "Install the service on this machine."),
        "uninstall": ("openmse.cli.install:uninstall", "Remove the service; its data stays."),
        "lab": ("openmse.cli.lab:lab", "A laboratory of machines on this computer."),
    },
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    default="/etc/openmse/openmse.toml",
    envvar="OPENMSE_CONFIG",
    show_default=True,
    help="The configuration file of this machine.",
)
@click.version_option(__version__, prog_name="mse")
@click.pass_context
def root(ctx: click.Context, config_path: str) -> None:
    """OpenMSE: two nodes, a witness, one virtual IP, no lost write."""
    ctx.obj = config_path


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    run_command(root, "mse", arguments)


def run_command(command: click.Command, name: str, arguments: list[str] | None = None) -> None:
    """Run a tree of commands under ``name``; errors as people read them, and the exit codes."""
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Abort as error:
        _stopped(error)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MseError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone away: nothing to say to it
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        show_error(_unwritten(error))
        sys.exit(DriverError.exit_code)
    if isinstance(code, int) and code:
        sys.exit(code)


def _unwritten(error: OSError) -> DriverError:
    """The error for output, or a file, for which there is no room."""
    try:
        sys.stdout.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # or Python tries again at its end, and says so
        os.close(nothing)
    return DriverError(
        f"The output could not be written: {error.strerror}. What was asked for may be done.",
        "Make room where the output goes, or send it elsewhere; look before it is repeated.",
    )


def _stopped(error: click.exceptions.Abort) -> None:
    """Somebody answered no, or pressed Ctrl-C."""
    if isinstance(error.__cause__, KeyboardInterrupt):
        click.echo("Stopped. What was begun goes on: look with 'mse ha status'.", err=True)
        sys.exit(130)
    click.echo("Stopped; nothing was changed.", err=True)
    sys.exit(1)


def show_error(error: MseError) -> None:
    """Print an error as people read it."""
    click.echo(f"{error.code}: {error.sentence}", err=True)
    if error.hint:
        click.echo(f"  What to do: {error.hint}", err=True)
