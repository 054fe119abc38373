"""``mse license``: what is licensed here, and the files that say so."""

import os
from contextlib import suppress
from datetime import date
from pathlib import Path

import click
from msgspec import Struct

from openmse.cli.lazy import LazyGroup
from openmse.cli.machine import json_option, load_config, print_json, require_root
from openmse.cli.platform_machine import engine_of, exchange, exchanged, file_bytes, operator
from openmse.platform.engine import Done, Engine, describe
from openmse.platform.errors import LicenceStoreError
from openmse.platform.evaluation import LicenceView, Limits
from openmse.platform.licence import MAX_BYTES, Licence
from openmse.platform.licence_keys import Broken, load_trusted, verify
from openmse.platform.settings import keys_beside

file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group(
    cls=LazyGroup,
    lazy={
        "keygen": ("openmse.cli.license_issue:keygen", "Make a key that signs licences."),
        "issue": ("openmse.cli.license_issue:issue", "Sign a licence with your own key."),
    },
)
def license() -> None:
    """Licences: signed files. Without any the built-in limits hold; nothing calls home."""


class Shown(Struct, frozen=True):
    """``show --json``."""

    licence: Licence
    key_id: str
    is_trusted: bool
    """Whether this engine trusts the key and the signature is genuine."""
    sentence: str


class Listed(Struct, frozen=True):
    """``list --json``."""

    udi: str
    licences: tuple[LicenceView, ...]
    broken: tuple[Broken, ...]


class Changed(Struct, frozen=True):
    """``install --json`` and ``remove --json``. ``exchange``: how the other node gets it."""

    sentence: str
    licence: Licence
    exchange: str


@license.command()
@file_argument
@json_option
@click.pass_context
def show(ctx: click.Context, file: Path, as_json: bool) -> None:
    """What the licence in FILE grants, and whether this engine trusts it. Needs no engine."""
    from openmse.cli.machine import config_path
    from openmse.errors import MseError
    from openmse.platform.licence import parse

    data = file_bytes(file, MAX_BYTES)
    signed = parse(data)
    try:
        verify(data, load_trusted(keys_beside(config_path(ctx))).keys)
        is_trusted, sentence = True, "Its signature is genuine, by a key that is trusted here."
    except MseError as error:
        is_trusted, sentence = False, f"{error.sentence} {error.hint}".strip()
    if as_json:
        print_json(Shown(signed.licence, signed.key_id, is_trusted, sentence))
    else:
        click.echo(data.decode(), nl=False)
        click.echo(sentence)
    if not is_trusted:
        ctx.exit(3)


@license.command(name="list")
@json_option
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """The licences of this engine and its peer, and whether each counts."""
    engine = engine_of(ctx, load_config(ctx))
    _remember_today(engine)
    limits, broken = engine.look()
    if as_json:
        print_json(Listed(limits.udi, limits.licences, broken))
        return
    click.echo("\n".join(_list_lines(limits, broken)))


def _list_lines(limits: Limits, broken: tuple[Broken, ...]) -> list[str]:
    lines = [f"Engine {limits.udi}"]
    if not limits.licences and not broken:
        lines.append("No licence is installed: the built-in limits hold.")
    for view in limits.licences:
        until = f", last day {view.last_day}" if view.last_day else ""
        lines.append(f"{view.licence.id}  {view.standing}{until}")
        lines.append(f"    {describe(view.licence)}")
        lines.append(
            f"    issued {view.licence.issued} to {view.licence.issued_to} by "
            f"{view.licence.issued_by}; installed {view.first_installed}{_by(view)}"
        )
    for one in broken:
        lines.append(f"DOES NOT COUNT  {one.file}: {one.sentence}")
    return lines


def _by(view: LicenceView) -> str:
    return f" by {view.installed_by}" if view.installed_by else ""


@license.command()
@file_argument
@json_option
@click.pass_context
def install(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Install the licence in FILE, on either node; the other one gets it by itself."""
    require_root("mse license install")
    config = load_config(ctx)
    data = file_bytes(file, MAX_BYTES)
    exchanged(ctx, config)  # what the other node has counts in what this one may install
    _changed(ctx, engine_of(ctx, config).install(data, operator()), as_json)


@license.command()
@click.argument("licence_id", metavar="ID")
@json_option
@click.pass_context
def remove(ctx: click.Context, licence_id: str, as_json: bool) -> None:
    """Remove a licence from this engine and its peer. ID: all of it, or how it begins.

    An evaluation period does not begin anew when its licence is installed again.
    """
    require_root("mse license remove")
    config = load_config(ctx)
    exchanged(ctx, config)
    _changed(ctx, engine_of(ctx, config).remove(licence_id, operator()), as_json)


def _changed(ctx: click.Context, done: Done, as_json: bool) -> None:
    told = exchanged(ctx, load_config(ctx))
    if as_json:
        print_json(Changed(done.sentence, done.licence, told))
        return
    click.echo(done.sentence)
    click.echo(told)


@license.command()
@json_option
@click.pass_context
def sync(ctx: click.Context, as_json: bool) -> None:
    """Have both nodes hold the same licences, and know each other's UDI."""
    require_root("mse license sync")
    config = load_config(ctx)
    engine = engine_of(ctx, config)
    engine.remember_today()
    done = exchange(ctx, config, engine)
    if as_json:
        print_json(done)
    else:
        click.echo(done.sentence)


@license.command()
@json_option
@click.pass_context
def limits(ctx: click.Context, as_json: bool) -> None:
    """How much of each thing there may be, as services enforce it. Works with the daemon down."""
    engine = engine_of(ctx, load_config(ctx))
    _remember_today(engine)
    found = engine.limits()
    if as_json:
        print_json(found)
        return
    click.echo("\n".join(limit_lines(found)))


def _remember_today(engine: Engine) -> None:
    """So that a clock that goes back is noticed; a full disk does not keep anybody from looking."""
    if os.geteuid() == 0:
        with suppress(LicenceStoreError):
            engine.remember_today()


def limit_lines(limits: Limits) -> list[str]:
    """The guide's table: engine, service, platform limit, type, installed limit. Pure."""
    standing = "Activated" if limits.is_activated else "Not Activated"
    lines = [f"{limits.udi}  {standing}" if limits.is_licensing_on else limits.udi]
    if not limits.is_licensing_on:
        lines.append("Licensing is switched off here: only the platform limits hold.")
    head = ("Service", "Platform Limit", "Type", "Installed Limit", "")
    rows = [head] + [
        (row.service, str(row.platform_limit), row.title, str(row.limit), row.type)
        for row in limits.limits
    ]
    lines += [f"{a:8} {b:>14}  {c:28} {d:>15}  {e}".rstrip() for a, b, c, d, e in rows]
    if limits.is_clock_back:
        lines.append(_clock_line(limits.as_of))
    return lines


def _clock_line(as_of: date) -> str:
    return (
        f"The clock of this machine was set back; {as_of}, the latest date seen, counts instead. "
        "Set the clock right (NTP)."
    )
