"""``mse engine`` and ``msed``: start, stop and look at the product on this machine."""

import os
import signal
import subprocess

import click

from openmse.cli.machine import config_path, json_option, load_config, print_json, require_root
from openmse.install.engine import keeper, parts, status
from openmse.install.engine import start as starting
from openmse.install.engine import stop as stopping
from openmse.install.engine.launcher import launcher
from openmse.install.engine.look import Engine, ask, look, make_engine

handover_option = click.option(
    "--handover/--no-handover",
    default=False,
    help="Hand the service over to the other node first. The default while the machine shuts down.",
)
wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(1, 86_400),
    default=starting.READY_WITHIN_S,
    show_default=True,
    metavar="SECONDS",
    help="How long the node may take until it serves, or stands by.",
)


@click.group()
def engine() -> None:
    """Start, stop and look at the product on this machine."""


@engine.command()
@wait_option
@click.pass_context
def start(ctx: click.Context, wait_s: float) -> None:
    """Start what does not run: health monitor, admin process, database, framework and services.

    A line is printed for each that was started, once it answers. A part that fails is named, and
    whatever serves goes on. With systemd its units are started; without it the daemons, which write
    to /var/log/openmse.
    """
    require_root("msed start")
    starting.start(_engine(ctx), wait_s)


@engine.command()
@handover_option
@click.pass_context
def stop(ctx: click.Context, handover: bool) -> None:
    """Stop this node on purpose (GRACEFUL_SHUTDOWN), PostgreSQL included; nobody takes over.

    With --handover the other node takes over first, without loss. The node stays stopped until it
    is started again, or the machine is.
    """
    require_root("msed stop")
    stopping.stop(_engine(ctx), is_handover=handover)


@engine.command()
@handover_option
@wait_option
@click.pass_context
def restart(ctx: click.Context, handover: bool, wait_s: float) -> None:
    """Stop this node on purpose, then start it again."""
    require_root("msed restart")
    found = _engine(ctx)
    starting.check_prepared(found.config)  # or it would be stopped and stay so
    stopping.stop(found, is_handover=handover)
    starting.start(found, wait_s)


@engine.command("status")
@json_option
@click.pass_context
def show_status(ctx: click.Context, as_json: bool) -> None:
    """Say what runs; exit 0 if all is up, 4 if the health monitor is not, 1 if something lacks.

    'mse ha status' says what the node does in its group.
    """
    found = _engine(ctx)
    told = status.of(look(found), has_admin=found.admin is not None)
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(status.lines(told)))
    ctx.exit(status.exit_code(told))


@engine.command("unit-stop", hidden=True)
@click.pass_context
def unit_stop(ctx: click.Context) -> None:
    """What openmse.service does before systemd signals the guard (ExecStop=).

    While the machine shuts down the service is handed over first. Where the guard died by itself
    (systemd gives no MAINPID then) nothing is done: the health monitor and PostgreSQL go on.
    """
    if not os.environ.get("MAINPID"):
        return
    found = _engine(ctx)
    is_handover = _is_shutting_down()
    before = ask(found.config)
    if before is None or not stopping.ask_to_stop(found, is_handover=is_handover):
        return  # it answers nobody: systemd's signal to the guard is the way
    stopping.follow(found, before, is_handover=is_handover)


@engine.command("unit-reload", hidden=True)
@click.pass_context
def unit_reload(ctx: click.Context) -> None:
    """What openmse.service does on ``systemctl reload`` (ExecReload=): a new health monitor.

    The old one is ended as by a crash, which is the one way to end that leaves PostgreSQL, the
    address and the lease as they are; the guard starts the next at once, which adopts them.
    """
    require_root("systemctl reload openmse")
    config = load_config(ctx)
    process = keeper.find(os.path.join(config.paths.run_dir, parts.MONITOR_LOCK))
    if process is None:
        return
    process.send(signal.SIGKILL)
    starting.await_successor(_engine(ctx), process.pid)
    process.close()


def _engine(ctx: click.Context) -> Engine:
    path = config_path(ctx)
    if not path.exists():
        raise starting.config_path_missing(path)
    config = load_config(ctx)
    run_by = launcher(config.places.run_dir, parts.environment(path))

    def note(sentence: str) -> None:
        click.echo(sentence, err=True)

    return make_engine(config, path, run_by, say=click.echo, note=note)


def _is_shutting_down() -> bool:
    """Whether systemd is on its way to a reboot, a power-off or a halt."""
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "stopping"
