"""``mse witness``: run the third vote, prepare it, and see what it keeps."""

import os
import pwd
import sys
from pathlib import Path

import click

from openmse.cli.machine import json_option, print_json
from openmse.cli.passwords import password
from openmse.errors import CommandRefused, ConfigError, DaemonDownError, StateError
from openmse.install.layout import WITNESS_USER
from openmse.node.control.client import ControlClient
from openmse.pki.files import PUBLIC, write_file
from openmse.witness import config as settings
from openmse.witness.config import WitnessConfig, WitnessPart
from openmse.witness.control import ForgetArgs, GroupRow, GroupsAnswer

config_option = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=settings.DEFAULT_PATH,
    envvar="OPENMSE_WITNESS_CONFIG",
    show_default=True,
    help="The witness's configuration file.",
)


@click.group()
def witness() -> None:
    """The third vote: a small process that keeps one record per group, and no data."""


@witness.command()
@config_option
def run(path: Path) -> None:
    """Run the witness in the foreground, until SIGTERM."""
    _refuse_root(settings.load(path))  # which also shows its faults as every command does
    sys.stdout.flush()
    command = [sys.executable, "-m", "openmse.witness", "--config", str(path)]
    os.execv(sys.executable, command)


@witness.command()
@config_option
@click.option("--name", default="", help="Its name as a voter; 'witness' if not given.")
@click.option("--address", default="", help="The address to listen on; all if not given.")
@click.option("--password-file", default="", metavar="FILE", help="First line ('-': stdin).")
@click.option("--force", is_flag=True, help="Replace a password that was set before.")
def init(path: Path, name: str, address: str, password_file: str, force: bool) -> None:
    """Write the configuration file if there is none, and set the password that enrols groups.

    Nodes are asked for the same password when they enrol ('mse ha pair --witness ADDRESS').
    Groups that are kept stay.
    """
    config = _prepared(path, name, address)
    if config.password_file.exists() and not force:
        raise CommandRefused(
            "This witness has an enrolment password already, so nothing was changed.",
            "--force replaces it; groups that are enrolled stay enrolled.",
        )
    secret = password(password_file, "Enrolment password", confirm=True)
    from openmse.pki.password import PairingStore

    _make_state(config, path)
    PairingStore(config.password_file).set_password(secret)
    _give_to_user(config)
    click.echo(
        f"Witness '{config.witness.name}' is prepared. Start it ('systemctl start "
        "openmse-witness', or 'mse witness run' in the foreground), then enrol a group from its "
        f"primary: 'mse ha pair --witness {_shown_address(config)}' or 'mse ha witness replace'."
    )


def _prepared(path: Path, name: str, address: str) -> WitnessConfig:
    """The configuration in force after ``init``; raises ConfigError where it contradicts."""
    part = WitnessPart()
    if not path.exists():
        wanted = WitnessConfig(
            witness=WitnessPart(name=name or part.name, address=address or part.address)
        )
        return settings.parse(settings.as_toml(wanted).encode(), path)
    config = settings.load(path)
    for key, given, found in (
        ("name", name, config.witness.name),
        ("address", address, config.witness.address),
    ):
        if given and given != found:
            raise ConfigError(
                f"{path} says {key} = {found!r}, not {given!r}; nothing was changed.",
                f"Change the file, or leave --{key} out.",
            )
    return config


def _make_state(config: WitnessConfig, path: Path) -> None:
    try:
        config.groups_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"The directories of the witness cannot be made: {error}.", "Run it as root."
        ) from error
    if not path.exists():
        write_file(path, settings.as_toml(config).encode(), mode=PUBLIC)


def _give_to_user(config: WitnessConfig) -> None:
    """Where the service was installed, the witness runs as a user of its own: so are its files."""
    state = Path(config.paths.state_dir)
    try:
        owner = pwd.getpwnam(WITNESS_USER)
    except KeyError:
        return  # run by hand, as whoever runs it
    if os.geteuid() != 0:
        return
    for path in (state, *state.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _refuse_root(config: WitnessConfig) -> None:
    """What root writes in the place of the service's user, that user cannot read."""
    try:
        owner = pwd.getpwnam(WITNESS_USER).pw_uid
        found = Path(config.paths.state_dir).stat().st_uid
    except (KeyError, OSError):
        return
    if os.geteuid() == 0 and found == owner != 0:
        raise CommandRefused(
            f"The witness's files belong to the user {WITNESS_USER}, who could not read what root "
            "writes there; nothing was started.",
            "'systemctl start openmse-witness' starts it; without systemd, "
            "'/etc/init.d/openmse-witness start'.",
        )


def _shown_address(config: WitnessConfig) -> str:
    address = config.witness.address
    return "ADDRESS-OF-THIS-MACHINE" if address in ("0.0.0.0", "::") else address


@witness.command()
@config_option
@json_option
def groups(path: Path, as_json: bool) -> None:
    """The groups that it keeps: owner, mode, epoch, and when the nodes were last heard."""
    with _connect(path) as client:
        answer: GroupsAnswer = client.call("groups", type=GroupsAnswer)
    if as_json:
        print_json(answer)
    else:
        click.echo(as_text(answer))


@witness.command()
@config_option
@click.argument("group")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(path: Path, group: str, yes: bool) -> None:
    """Vote in GROUP no more, and remove what is kept of it.

    A group that still counts on this witness loses a vote: replace or remove the witness there
    first ('mse ha witness').
    """
    if not yes:
        click.confirm(f"Forget group {group}, its record and its keys?", abort=True)
    with _connect(path) as client:
        answer: dict[str, str] = client.call("forget", ForgetArgs(group), type=dict[str, str])
    click.echo(answer["sentence"])


def _connect(path: Path) -> ControlClient:
    config = settings.load(path)
    try:
        return ControlClient(config.control_socket)
    except DaemonDownError as error:
        raise DaemonDownError(
            f"The witness does not answer on {config.control_socket}.",
            "Start it ('systemctl start openmse-witness'), or name its file with --config.",
        ) from error


def as_text(answer: GroupsAnswer) -> str:
    """A line for each group, and its trouble below it."""
    if not answer.groups:
        return f"Witness {answer.witness} keeps no group."
    lines = [f"{'group':16} {'owner':12} {'mode':7} {'epoch':>6}  last heard"]
    for row in answer.groups:
        owner, mode = row.owner or "-", row.mode or "-"
        epoch = "-" if row.epoch is None else str(row.epoch)
        lines.append(f"{row.group:16} {owner:12} {mode:7} {epoch:>6}  {_heard(row)}")
        if row.trouble:
            lines.append(f"  {'NOT SERVED' if not row.is_served else 'TROUBLE'}: {row.trouble}")
        elif row.abstains_s:
            lines.append(f"  abstains from changes of owner for {row.abstains_s:.1f} s more")
    return "\n".join(lines)


def _heard(row: GroupRow) -> str:
    words = []
    for node in row.nodes:
        ago = "never" if node.heard_s is None else f"{node.heard_s:.1f} s ago"
        words.append(f"{node.name} {ago}")
    return ", ".join(words) or "-"
