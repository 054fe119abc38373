"""``mse install`` and ``mse uninstall``: this machine's accounts, units, pages and completions."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import click

from openmse import __version__
from openmse.cli.machine import require_root
from openmse.errors import MseError
from openmse.install import apply, plan, running
from openmse.install.engine.launcher import SYSTEMD_MARK
from openmse.install.errors import InstallFailed, InstallRefused
from openmse.install.layout import (
    CONSOLE_SCRIPT,
    DATA,
    INIT_SCRIPTS,
    Destination,
    File,
    Layout,
    layout,
    paths_drop_in,
)
from openmse.install.plan import Change
from openmse.node.config import DEFAULT_PATH, NodeConfig

PACKAGE_HOME = Path("/usr/lib/openmse")
"""Where the Debian package has its interpreter."""

root_option = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="Work on the machine whose files are below DIR, such as a mounted image.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would change, and change nothing."
)


@click.command()
@root_option
@click.option(
    "--prefix",
    type=click.Path(path_type=Path),
    default=Path("/usr/local"),
    show_default=True,
    help="Below it go the links to the commands, the manual pages and the completions.",
)
@dry_run_option
@click.option("--accounts-only", is_flag=True, hidden=True)
def install(root: Path, prefix: Path, dry_run: bool, accounts_only: bool) -> None:
    """Install the service on this machine, after 'pip install'.

    Makes the system users, the directories, the systemd units (which start what has a configuration
    file), the links to the commands, manual pages, completions and the documents. May be repeated:
    only what differs is changed, and a file that you changed is kept as NAME.saved. Nothing is
    started.
    """
    if not dry_run:
        require_root("mse install")
    _require_machine(root)
    wanted = _accounts_only() if accounts_only else _wanted(root, prefix)
    changes = plan.changes(wanted, root)
    if dry_run:
        _show(changes, "Everything is in place")
        return
    try:
        apply.apply(changes, root, click.echo)
    except (MseError, KeyboardInterrupt):
        with suppress(MseError, OSError):  # on a full disk even that may fail
            apply.remember(plan.manifest_so_far(wanted, __version__, root), root)
        raise
    if accounts_only:
        return
    apply.remember(plan.manifest_of(wanted, __version__), root)
    if changes:
        _reload(root)
        click.echo("Installed. 'mse setup' configures this machine, 'msed start' starts it.")
    else:
        click.echo("Everything is in place; nothing was changed.")


@click.command()
@root_option
@dry_run_option
def uninstall(root: Path, dry_run: bool) -> None:
    """Remove what 'mse install' put on this machine; say what data stays.

    Refused while a node, a witness or a console of this machine runs. The configuration, the
    databases, the keys, the logs and the system users stay.
    """
    if not dry_run:
        require_root("mse uninstall")
    _require_machine(root)
    _refuse_packaged()
    if root == Path("/"):
        running.refuse_while_running()
    changes = plan.removal(root)
    if dry_run:
        _show(changes, "Nothing is installed here")
    elif changes:
        apply.apply(changes, root, click.echo)
        apply.forget(root)
        _reload(root)
    else:
        apply.forget(root)
        click.echo("Nothing is installed here; nothing was changed.")
    _tell_data(root)


def _wanted(root: Path, prefix: Path) -> Layout:
    _refuse_packaged()
    to = Destination(
        python=sys.executable,
        bin_dir=str(Path(sys.executable).parent),
        commands=command_names(),
        prefix=str(prefix),
    )
    found = layout(to)
    return Layout(found.accounts, found.directories, (*found.files, *_paths(to, root)), found.links)


def command_names() -> tuple[str, ...]:
    """The commands that this distribution brings."""
    points = importlib.metadata.distribution("openmse").entry_points
    return tuple(sorted(point.name for point in points if point.group == "console_scripts"))


def _paths(to: Destination, root: Path) -> tuple[File, ...]:
    """Drop-ins for a configuration that keeps its data where the units may not write."""
    try:
        from openmse.node.config_load import load

        config = load(plan.under(root, str(DEFAULT_PATH)))
    except MseError:
        return ()  # not configured yet, or not rightly: 'mse config check' says so
    return tuple(
        File(PurePosixPath(to.unit_dir, f"{unit}.d", "paths.conf"), paths_drop_in(outside))
        for unit, outside in elsewhere(config).items()
        if outside
    )


def elsewhere(config: NodeConfig) -> dict[str, tuple[str, ...]]:
    """Directories of the configuration that a unit may not write to by itself, by its name."""
    usual = ("/var/lib/openmse", "/run/openmse")
    state = config.paths.state_dir
    named = {
        "openmse.service": (state, config.paths.run_dir, str(config.places.data_dir.parent)),
        "openmse-admin.service": (state,),
    }
    return {
        unit: tuple(
            path
            for path in dict.fromkeys(paths)
            if not any(Path(path).is_relative_to(directory) for directory in usual)
        )
        for unit, paths in named.items()
    }


def _accounts_only() -> Layout:
    from openmse.install.layout import ACCOUNTS, DIRECTORIES

    return Layout(ACCOUNTS, DIRECTORIES, (), ())


def _refuse_packaged() -> None:
    if Path(sys.prefix) == PACKAGE_HOME:
        raise InstallRefused(
            "This installation belongs to the Debian package openmse; nothing was changed.",
            "'apt install' and 'apt remove' install and remove it.",
        )


def _require_machine(root: Path) -> None:
    """Accounts are part of an installation: without a list of them there is no machine."""
    if not plan.under(root, "/etc/passwd").is_file():
        raise InstallRefused(
            f"There is no machine below {root}: etc/passwd is missing. Nothing was changed.",
            "Name the directory on which its root file system is mounted.",
        )


def _show(changes: Sequence[Change], nothing: str) -> None:
    for change in changes:
        click.echo(f"would {plan.told(change)}")
        if text := plan.diff(change):
            click.echo(text.rstrip("\n"))
    if not changes:
        click.echo(f"{nothing}; nothing would be changed.")


def _reload(root: Path) -> None:
    """Have systemd read the units, where it runs; else have the init scripts run at boot."""
    if root != Path("/"):
        return
    if not SYSTEMD_MARK.is_dir():
        _register_init_script()
        return
    command = ["systemctl", "daemon-reload"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise InstallFailed(
            f"Everything is in place, but systemd did not read its units: {done.stderr.strip()}",
            "'systemctl daemon-reload' must work before anything is started.",
        )


def _register_init_script() -> None:
    """As sysvinit wants it: present or not, the links follow."""
    program = shutil.which("update-rc.d")
    if program is not None:
        for name in INIT_SCRIPTS:
            is_there = os.path.exists(f"/etc/init.d/{name}")
            if is_there and name == CONSOLE_SCRIPT:
                continue  # at boot only where a person says so, as with systemd
            verb = "defaults" if is_there else "remove"
            subprocess.run([program, name, verb], capture_output=True, check=False, timeout=60)


def _tell_data(root: Path) -> None:
    kept = plan.data_that_stays(root, DATA)
    if not kept:
        return
    click.echo("These stay, with all their data:")
    for path, size in kept.items():
        click.echo(f"  {path:26} {size / 2**20:10.1f} MiB")
    click.echo("and the system users openmse, openmse-witness and openmse-console.")
    click.echo(f"To lose them for good: rm -rf {' '.join(kept)}")
