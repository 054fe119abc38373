"""``getserverinfo`` and ``gethainfo``: the guide's screens, also as ``mse`` commands.

Exit 0 while the health monitor runs; 4, as everywhere, while it does not.
"""

import click

from openmse.cli.machine import (
    config_path,
    connect,
    json_option,
    load_config,
    places,
    print_json,
    reading_as_root,
    status,
)
from openmse.cli.platform_machine import service_facts
from openmse.errors import DaemonDownError
from openmse.node.control.snapshot import Snapshot
from openmse.platform import who
from openmse.platform.status import collect, ha_info, server_info
from openmse.platform.status.server_info import ServerInfo


@click.command("server-info")
@json_option
@click.pass_context
def getserverinfo(ctx: click.Context, as_json: bool) -> None:
    """The server's configuration, services, memory and sessions, as getserverinfo shows them."""
    picture = _picture(ctx)
    found = ServerInfo(is_running=False)
    if picture is not None:
        found = collect.server_info(picture, places(ctx), _who(ctx, picture), service_facts())
    _show(ctx, found, server_info.render(found), as_json=as_json, is_running=found.is_running)


@click.command("ha-info")
@json_option
@click.pass_context
def gethainfo(ctx: click.Context, as_json: bool) -> None:
    """The pair as gethainfo shows it; what was saved last while the health monitor is stopped."""
    picture = _picture(ctx)
    if picture is not None:
        found = collect.ha_info(picture, _who(ctx, picture))
    else:
        config = load_config(ctx)
        known = who.read(config_path(ctx), config.places.state_dir, config.node.name)
        with reading_as_root("gethainfo"):
            kept = collect.saved(config.places)
        found = collect.saved_ha_info(kept, config, known)
    _show(ctx, found, ha_info.render(found), as_json=as_json, is_running=found.is_running)


def _picture(ctx: click.Context) -> Snapshot | None:
    """What the health monitor says; None while it does not run."""
    try:
        with connect(ctx) as client:
            return status(client)
    except DaemonDownError:
        return None


def _who(ctx: click.Context, picture: Snapshot) -> who.Who:
    return who.read(config_path(ctx), places(ctx).state_dir, picture.node)


def _show(
    ctx: click.Context, value: object, lines: list[str], *, as_json: bool, is_running: bool
) -> None:
    if as_json:
        print_json(value)
    else:
        click.echo("\n".join(lines))
    if not is_running:
        ctx.exit(DaemonDownError.exit_code)


def main_getserverinfo() -> None:
    """The console script ``getserverinfo``."""
    _main(getserverinfo, "getserverinfo")


def main_gethainfo() -> None:
    """The console script ``gethainfo``."""
    _main(gethainfo, "gethainfo")


def _main(command: click.Command, name: str) -> None:
    from openmse.cli.alias import by_its_own_name
    from openmse.cli.main import run_command

    run_command(by_its_own_name(command, name), name)
