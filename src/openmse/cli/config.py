"""``mse config``: check the file before the daemon meets it, show what is in force."""

from pathlib import Path

import click
import msgspec

from openmse.cli.config_faults import faults_of
from openmse.cli.machine import config_path, json_option, load_config, print_json
from openmse.errors import ConfigError


@click.group()
def config() -> None:
    """Check and show the configuration file."""


@config.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@json_option
@click.pass_context
def check(ctx: click.Context, file: str | None, as_json: bool) -> None:
    """Check FILE (default: this machine's); exit 2 with every fault, its line and what to do."""
    from openmse.node.config_load import load

    path = Path(file) if file else config_path(ctx)
    try:
        found = load(path)
    except ConfigError as error:
        if as_json:
            print_json(faults_of(path, error))
        raise
    if as_json:
        print_json([])
        return
    click.echo(f"{path} is in order: {found.node.name}, {found.node.role.value}.")


@config.command()
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Every setting in force, defaults included. Secrets never stand in the file."""
    found = load_config(ctx)
    if as_json:
        print_json(found)
        return
    for section, table in msgspec.to_builtins(found).items():
        click.echo(f"[{section}]")
        for key, value in table.items():
            click.echo(f"{key} = {msgspec.json.encode(value).decode()}")
        click.echo()
