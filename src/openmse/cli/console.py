"""``mse console``: run the console, get back in, save and restore what it keeps."""

import os
import sys
from pathlib import Path

import click

from openmse.cli.owners import give_to_owner

DEFAULT_PATH = Path("/etc/openmse/console.toml")

config_option = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_PATH,
    envvar="OPENMSE_CONSOLE_CONFIG",
    show_default=True,
    help="The console's settings. A file that is named has to be there.",
)


@click.group()
def console() -> None:
    """The web console, on the third machine; pairs do not notice when it is down."""


@console.command()
@config_option
@click.option("--fd", default=-1, metavar="N", help="A listening socket that is open already.")
def run(path: Path, fd: int) -> None:
    """Run the console in the foreground, until SIGTERM."""
    from openmse.console.settings import load

    load(path)  # so that its faults are shown as every command shows them
    sys.stdout.flush()
    command = [sys.executable, "-m", "openmse.console", "--config", str(path)]
    if fd >= 0:
        os.set_inheritable(fd, True)
        command += ["--fd", str(fd)]
    os.execv(sys.executable, command)


@console.command()
@config_option
def recover(path: Path) -> None:
    """Print a link that makes (or resets) an administrator, once; an older link ends."""
    from openmse.console.app import make_console
    from openmse.console.people.login import new_setup_link
    from openmse.console.settings import load
    from openmse.console.store.store import open_existing

    settings = load(path)
    try:
        made = make_console(settings, open_existing(settings))
        made.audit.add(who="command line", action="recover", outcome="begun")
        click.echo(new_setup_link(made))
        made.store.close()
    finally:
        give_to_owner(settings.state_dir)


@console.command()
@config_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(path: Path, file: Path) -> None:
    """Save everything the console keeps into FILE, while it runs; FILE holds secrets."""
    from openmse.console.backup import save
    from openmse.console.settings import load

    click.echo(save(load(path), file))


@console.command()
@config_option
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Although there is a store already; it is kept aside."
)
def restore(path: Path, file: Path, replace: bool) -> None:
    """Put back what 'mse console backup' saved; the console must not run meanwhile."""
    from openmse.console.backup import restore as put_back
    from openmse.console.settings import load

    settings = load(path)
    try:
        click.echo(put_back(settings, file, is_replacing=replace))
    finally:
        give_to_owner(settings.state_dir)
