"""``mse lab``: a pair with its witness and a client on this computer, and faults to try on it."""

import json
import os
import sys
from typing import Any

import click

from openmse.cli.lab_campaign import bench, campaign, demo
from openmse.errors import UsageError
from openmse.lab import cleanup, requirements
from openmse.lab.faults import FREEZABLE, KILLABLE
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.switch import ONLY
from openmse.lab.topology import Places, Topology

DEFAULT_NAME = "lab"
_META = "openmse.lab.name"


def _chosen_name(ctx: click.Context, _parameter: click.Parameter, given: str | None) -> str:
    """The name given here or to a command above; what is below sees it too."""
    name = given or ctx.meta.get(_META) or DEFAULT_NAME
    ctx.meta[_META] = name
    return str(name)


name_option = click.option(
    "--name", metavar="NAME", callback=_chosen_name, help=f"Which laboratory ({DEFAULT_NAME})."
)
"""Every command of a laboratory takes it."""
_group_name_option = click.option(
    "--name", metavar="NAME", callback=_chosen_name, expose_value=False, help="Which laboratory."
)


@click.group()
@_group_name_option
def lab() -> None:
    """Rehearse on this computer: whole machines, real faults, nothing left behind."""


for _command in (campaign, bench, demo):
    lab.add_command(_command)


@lab.command()
@name_option
@click.option(
    "--topology",
    type=click.Choice([topology.value for topology in Topology]),
    default=Topology.PAIR.value,
    show_default=True,
)
@click.option("--failover-wait", type=float, default=5.0, show_default=True, metavar="SECONDS")
@click.option("--direct", is_flag=True, help="The nodes have a cable of their own, eth1 to eth1.")
@click.option("--bare", is_flag=True, help="Machines only: no daemons, nothing paired.")
@click.option("--keep", is_flag=True, help="Leave everything in place if it fails, to look at it.")
def up(
    name: str, topology: str, failover_wait: float, *, direct: bool, bare: bool, keep: bool
) -> None:
    """Build the machines, pair the nodes, return when the pair is in SYNC."""
    wanted = Wanted(
        topology=Topology(topology),
        failover_wait_s=failover_wait,
        is_direct=direct,
        is_bare=bare,
        is_kept_on_failure=keep,
    )
    laboratory = Laboratory.up(name, wanted, lambda step: click.echo(f"{name}: {step}", err=True))
    laboratory.close()
    click.echo(f"The laboratory '{name}' is up. Look: mse lab status --name {name}", err=True)


@lab.command()
@name_option
def down(name: str) -> None:
    """Remove the laboratory, whatever state it is in."""
    requirements.check_root()
    requirements.extend_path()
    cleanup.down(Places.of(name))


@lab.command()
@name_option
@click.option("--json", "is_json", is_flag=True, help="For programs.")
def status(name: str, is_json: bool) -> None:
    """What runs where, and who owns the group."""
    picture = Laboratory.open(name).status()
    click.echo(json.dumps(picture, indent=2) if is_json else _as_text(picture))


def _as_text(picture: dict[str, Any]) -> str:
    lines = []
    for name, group in picture["groups"].items():
        lines.append(
            f"group {name}: {group['mode'] or 'not answering'}, owner {group['owner'] or '-'}, "
            f"epoch {_shown(group['epoch'])}, virtual IP {group['virtual_ip']}"
        )
    lines.append(f"{'machine':8} {'address':12} {'state':20} {'role':10} {'sync':12} pids")
    for name, machine in picture["machines"].items():
        pids = ", ".join(f"{what} {pid}" for what, pid in machine["pids"].items() if pid)
        words = [_shown(machine[field]) for field in ("state", "role", "sync")]
        lines.append(
            f"{name:8} {machine['address']:12} {words[0]:20} {words[1]:10} {words[2]:12} {pids}"
        )
    return "\n".join(lines)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@name_option
@click.option("--user", default="", help="Run as this user of the machine instead of root.")
@click.argument("machine")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, user: str, machine: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on a machine; its exit status is passed on."""
    terminal = {key: os.environ[key] for key in ("TERM", "COLORTERM") if key in os.environ}
    argv, environment = Laboratory.open(name).entry(
        machine, command, user=user, environment=terminal
    )
    sys.stdout.flush()
    os.execve(argv[0], argv, environment)


@lab.group()
@_group_name_option
def fault() -> None:
    """Break something, or mend it."""


def _told(name: str, sentence: str, at_ns: int) -> None:
    click.echo(f"{name}: {sentence} (CLOCK_BOOTTIME {at_ns / 1e9:.6f} s)", err=True)


@fault.command("power-off")
@name_option
@click.argument("machine")
def power_off(name: str, machine: str) -> None:
    """Take the power away: the cable goes silent, then everything dies."""
    _told(name, f"{machine} has no power", Laboratory.open(name).power_off(machine))


@fault.command("power-on")
@name_option
@click.argument("machine")
def power_on(name: str, machine: str) -> None:
    """Give the power back: a boot from the disk as it was left."""
    _told(name, f"{machine} boots", Laboratory.open(name).power_on(machine))


@fault.command()
@name_option
@click.option("--only", type=click.Choice(ONLY), default=None, help="Lose just this.")
@click.argument("machine")
@click.argument("other", required=False, default="")
def cut(name: str, only: str | None, machine: str, other: str) -> None:
    """Cut a machine off from OTHER, or from everybody."""
    at = Laboratory.open(name).cut(machine, other, only or "")
    _told(name, f"{machine} is cut off from {other or 'everybody'}", at)


@fault.command("one-way")
@name_option
@click.argument("machine")
@click.argument("other")
def one_way(name: str, machine: str, other: str) -> None:
    """Lose what MACHINE sends to OTHER."""
    at = Laboratory.open(name).one_way(machine, other)
    _told(name, f"what {machine} sends to {other} is lost", at)


@fault.command()
@name_option
@click.option("--period", default=1.0, show_default=True, help="Seconds; half cut, half healed.")
@click.option("--times", default=0, help="How many cuts; until healed unless given.")
@click.argument("machine")
@click.argument("other")
def flap(name: str, period: float, times: int, machine: str, other: str) -> None:
    """Cut and heal a connection again and again, in the background."""
    at = Laboratory.open(name).flap(machine, other, period_s=period, times=times)
    _told(name, f"the connection of {machine} and {other} flaps", at)


@fault.command()
@name_option
@click.argument("machine", required=False, default="")
@click.argument("other", required=False, default="")
def heal(name: str, machine: str, other: str) -> None:
    """Undo cuts, flapping and slowness: all, one machine's, or one connection's."""
    _told(name, "the cables are healed", Laboratory.open(name).heal(machine, other))


@fault.command()
@name_option
@click.argument("machine")
@click.argument("component", type=click.Choice(KILLABLE))
def kill(name: str, machine: str, component: str) -> None:
    """SIGKILL one component."""
    at = Laboratory.open(name).kill(machine, component)
    _told(name, f"{component} of {machine} is killed", at)


@fault.command()
@name_option
@click.argument("machine")
@click.argument("what", type=click.Choice(FREEZABLE))
def freeze(name: str, machine: str, what: str) -> None:
    """Stop a component, or all of a machine, without its knowledge."""
    _told(name, f"{what} of {machine} is frozen", Laboratory.open(name).freeze(machine, what))


@fault.command()
@name_option
@click.argument("machine")
@click.argument("what", type=click.Choice(FREEZABLE))
def thaw(name: str, machine: str, what: str) -> None:
    """Let go on what was frozen."""
    _told(name, f"{what} of {machine} goes on", Laboratory.open(name).thaw(machine, what))


@fault.command()
@name_option
@click.option("--delay", default=0.0, metavar="MS", help="Each way.")
@click.option("--loss", default=0.0, metavar="PERCENT", help="Each way.")
@click.argument("machine")
def slow(name: str, delay: float, loss: float, machine: str) -> None:
    """Make a machine's cable slow or lossy; both 0 undoes it."""
    at = Laboratory.open(name).slow(machine, delay, loss)
    _told(name, f"{machine}'s cable has a delay of {delay:g} ms and loses {loss:g} %", at)


@fault.command("fill-disk")
@name_option
@click.option("--reserve", is_flag=True, help="Take what is reserved for root as well.")
@click.argument("machine")
def fill_disk(name: str, reserve: bool, machine: str) -> None:
    """Fill a machine's disk."""
    at = Laboratory.open(name).fill_disk(machine, is_reserve_too=reserve)
    _told(name, f"the disk of {machine} is full", at)


@fault.command("free-disk")
@name_option
@click.argument("machine")
def free_disk(name: str, machine: str) -> None:
    """Undo fill-disk."""
    _told(name, f"the disk of {machine} has room again", Laboratory.open(name).free_disk(machine))


@fault.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("machine")
@click.argument("offset")
def clock(name: str, machine: str, offset: str) -> None:
    """Move a machine's wall clock by OFFSET seconds (±S), where that is possible."""
    try:
        seconds = float(offset)
    except ValueError:
        raise UsageError(f"'{offset}' is not a number of seconds.", "Write +30 or -30.") from None
    Laboratory.open(name).clock(machine, seconds)
