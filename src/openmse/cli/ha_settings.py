"""``mse ha settings``: the part of the register that an administrator sets."""

from typing import Any

import click
from msgspec import UNSET

from openmse.cli.machine import connect, json_option, perform, print_json, status, tell
from openmse.errors import CommandRefused
from openmse.ha.timing import timing
from openmse.ha.values import SECOND, BootAlone, FailoverType, NoWitnessMode, Settings
from openmse.node.control.commands import SettingsArgs

_types = click.Choice([kind.value for kind in FailoverType])


@click.command()
@click.option("--failover-wait", type=float, metavar="SECONDS", help="The one knob: 2 to 120.")
@click.option("--experimental", is_flag=True, help="Accept a failover wait down to 1 s.")
@click.option("--failover-type", type=_types)
@click.option("--failback-type", type=_types)
@click.option("--no-witness-mode", type=click.Choice([mode.value for mode in NoWitnessMode]))
@click.option("--boot-alone", type=click.Choice([mode.value for mode in BootAlone]))
@click.option("--boot-patience", type=float, metavar="SECONDS")
@click.option("--failback-stable", type=float, metavar="SECONDS")
@json_option
@click.pass_context
def settings(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Show the group's settings; with options, change them (a change of the register)."""
    given = {name: value for name, value in options.items() if value not in (None, False)}
    with connect(ctx) as client:
        if given:
            tell(perform(client, "set_settings", _args(given)))
            return
        register = status(client).register
        if register is None:
            raise CommandRefused("This node belongs to no group yet.", "'mse ha pair' makes one.")
        if as_json:
            print_json(register.settings)
        else:
            click.echo("\n".join(_lines(register.settings)))


def _args(given: dict[str, Any]) -> SettingsArgs:
    def enum(name: str, kind: Any) -> Any:
        return kind(given[name]) if name in given else UNSET

    return SettingsArgs(
        failover_wait_s=given.get("failover_wait", UNSET),
        is_experimental=bool(given.get("experimental", False)),
        failover_type=enum("failover_type", FailoverType),
        failback_type=enum("failback_type", FailoverType),
        no_witness_mode=enum("no_witness_mode", NoWitnessMode),
        boot_alone=enum("boot_alone", BootAlone),
        boot_patience_s=given.get("boot_patience", UNSET),
        failback_stable_s=given.get("failback_stable", UNSET),
    )


def _lines(s: Settings) -> list[str]:
    t = timing(s.failover_wait_ns)
    return [
        f"failover wait     {s.failover_wait_ns / SECOND:g} s (lease {t.lease_ns / SECOND:.2f} s, "
        f"heartbeat {t.beat_ns / SECOND:.2f} s, peer lost after {t.sync_loss_ns / SECOND:.2f} s)",
        f"failover type     {s.failover_type}",
        f"failback type     {s.failback_type} (after {s.failback_stable_ns / SECOND:g} s stable)",
        f"no-witness mode   {s.no_witness_mode}",
        f"boot alone        {s.boot_alone}",
        f"boot patience     {s.boot_patience_ns / SECOND:g} s",
        f"maintenance       {'on' if s.maintenance else 'off'}",
    ]
