"""``mse admin``: the management API of this node: run it, and say who may use it."""

import os
import sys
from pathlib import Path

import click

from openmse.api import config as settings
from openmse.api.config import ManagementConfig
from openmse.api.people import People, Role, Scope
from openmse.api.store import ManagementPlaces, prepare
from openmse.cli.machine import (
    config_path,
    json_option,
    load_config,
    places,
    print_json,
    reading_as_root,
)
from openmse.cli.machine import require_root as require
from openmse.cli.passwords import password as ask_password
from openmse.cli.recorded import recorded
from openmse.errors import ConfigError

file_option = click.option(
    "--management",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=settings.DEFAULT_PATH,
    envvar="OPENMSE_MANAGEMENT",
    show_default=True,
    help="The settings of the management API. A file that is named has to be there.",
)


@click.group()
def admin() -> None:
    """The management API of this node (HTTPS): run it, and say who may use it."""


@admin.command()
@file_option
@click.pass_context
def run(ctx: click.Context, path: Path) -> None:
    """Serve the management API in the foreground, until SIGTERM."""
    load_config(ctx)  # so that faults are shown as every command shows them
    settings.load(path)
    sys.stdout.flush()
    command = [sys.executable, "-m", "openmse.api", "--config", str(config_path(ctx))]
    os.execv(sys.executable, [*command, "--management", str(path)])


@admin.command()
@file_option
@json_option
@click.pass_context
def fingerprint(ctx: click.Context, path: Path, as_json: bool) -> None:
    """The SHA-256 fingerprint of the certificate, which a console pins when it is added.

    Makes the certificate if there is none yet.
    """
    from openmse.api.identity import fingerprint as fingerprint_of

    config = settings.load(path)
    with reading_as_root("mse admin fingerprint"):
        found = fingerprint_of(_certificate(ctx, config))
    if as_json:
        print_json({"fingerprint": found})
    else:
        click.echo(found)


def _certificate(ctx: click.Context, config: ManagementConfig) -> Path:
    from openmse.api.identity import ensure_certificate, tls_files

    kept = _places(ctx)
    files = tls_files(config, kept)
    if not config.management.certificate_file and not files.certificate.exists():
        require("mse admin fingerprint")
        prepare(kept)
        node = load_config(ctx).node
        ensure_certificate(kept, node.name, tuple(filter(None, (node.host, node.host6))))
    return files.certificate


@admin.group()
def certificate() -> None:
    """The certificate of the management API."""


@certificate.command("renew")
@file_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def renew(ctx: click.Context, path: Path, yes: bool) -> None:
    """Make a new key and certificate; every console and program must pin it again."""
    from openmse.api.identity import fingerprint as fingerprint_of
    from openmse.api.identity import make_certificate
    from openmse.api.store import locked

    require("mse admin certificate renew")
    if settings.load(path).management.certificate_file:
        raise ConfigError(
            f"{path} names a certificate of your own; nothing was changed.",
            "Renew it where it comes from, then restart the management API.",
        )
    if not yes:
        click.confirm("Every console must pin the new fingerprint. Go on?", abort=True, err=True)
    kept = _places(ctx)
    prepare(kept)
    node = load_config(ctx).node
    with recorded(kept, "certificate_renew", {}), locked(kept.lock):
        make_certificate(kept, node.name, tuple(filter(None, (node.host, node.host6))))
    click.echo(f"The new fingerprint is {fingerprint_of(kept.certificate)}")
    click.echo("Restart the management API, then pin it where this engine was added.", err=True)


@admin.command()
@click.option("--user", default="admin", show_default=True, metavar="NAME")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=None)
@click.option("--password-file", default="", metavar="FILE", help="First line ('-': stdin).")
@click.pass_context
def password(ctx: click.Context, user: str, role: str | None, password_file: str) -> None:
    """Set a user's password; makes the user if there is none (administrator by default)."""
    require("mse admin password")
    people = _people(ctx)
    secret = ask_password(password_file, f"Password of {user}", confirm=True)
    found = people.users.read().get(user)
    wanted = Role(role) if role is not None else None if found else Role.ADMINISTRATOR
    args = {"name": user[:64], "role": wanted and wanted.value, "is_password_set": True}
    with recorded(_kept(ctx), "user_set", args):
        told = people.set_user(user, wanted, secret)
    click.echo(told)


@admin.group()
def user() -> None:
    """Who may log in."""


@user.command("list")
@json_option
@click.pass_context
def list_users(ctx: click.Context, as_json: bool) -> None:
    """The users and their roles."""
    from openmse.api.answers import UserView

    found = [UserView.of(one) for one in _people(ctx).users.read().users]
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one.name:<24} {one.role:<14} changed {one.changed_at}")
    if not found:
        click.echo("There are no users; 'mse admin password' makes one.", err=True)


@user.command("remove")
@click.argument("name")
@click.pass_context
def remove_user(ctx: click.Context, name: str) -> None:
    """Remove a user with the tokens that he made; never the last administrator."""
    require("mse admin user remove")
    people = _people(ctx)
    with recorded(_kept(ctx), "user_remove", {"name": name[:64]}):
        count = people.remove_user(name)
    tokens = "the tokens that he made" if count > 1 else "the token that he made"
    click.echo(f"User {name} is removed" + (f", and {tokens} ({count})." if count else "."))


@admin.group()
def token() -> None:
    """Tokens for programs."""


@token.command("create")
@click.argument("name")
@click.option(
    "--scope", type=click.Choice([scope.value for scope in Scope]), default=Scope.READ.value
)
@click.option("--days", type=click.IntRange(1, 3650), default=None, help="It ends by itself.")
@click.pass_context
def create_token(ctx: click.Context, name: str, scope: str, days: int | None) -> None:
    """Make a token; it is printed this once, on standard output."""
    require("mse admin token create")
    people = _people(ctx)
    args = {"name": name[:64], "scope": scope, "expires_in_days": days}
    with recorded(_kept(ctx), "token_create", args):
        secret = people.make_token(name[:64], Scope(scope), "mse admin", days)
    click.echo(secret.text)
    click.echo(f"Its id is {secret.token.id}; it is not shown again.", err=True)


@token.command("list")
@json_option
@click.pass_context
def list_tokens(ctx: click.Context, as_json: bool) -> None:
    """The tokens, without their text."""
    from openmse.api.answers import TokenView

    people = _people(ctx)
    found = [TokenView.of(one) for one in people.tokens.read().tokens]
    if as_json:
        print_json(found)
        return
    for one in found:
        ends = f"ends {one.expires_at}" if one.expires_at else "does not end"
        click.echo(f"{one.id}  {one.scope:<10} {one.name:<24} {ends}, made by {one.created_by}")
    if not found:
        click.echo("There are no tokens; 'mse admin token create' makes one.", err=True)


@token.command("revoke")
@click.argument("token_id")
@click.pass_context
def revoke_token(ctx: click.Context, token_id: str) -> None:
    """End a token."""
    require("mse admin token revoke")
    people = _people(ctx)
    with recorded(_kept(ctx), "token_revoke", {"id": token_id[:64]}):
        people.revoke_token(token_id)
    click.echo(f"Token {token_id} is revoked.")


@admin.group()
def console() -> None:
    """The console that manages this engine."""


@console.command("show")
@json_option
@click.pass_context
def show_console(ctx: click.Context, as_json: bool) -> None:
    """Which console manages this engine."""
    from openmse.api.answers import ConsoleView

    found = _people(ctx).claim.read().console
    if as_json:
        print_json(ConsoleView.of(found) if found is not None else None)
    elif found is None:
        click.echo("No console manages this engine.")
    else:
        click.echo(
            f"{found.name} ({found.url or 'no address given'}), since {found.claimed_at}, claimed "
            f"by {found.claimed_by}."
        )


@console.command("release")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def release_console(ctx: click.Context, yes: bool) -> None:
    """Let no console manage this engine; another one can claim it then."""
    require("mse admin console release")
    if not yes:
        click.confirm("The console's token ends. Go on?", abort=True, err=True)
    people = _people(ctx)
    with recorded(_kept(ctx), "console_release", {}):
        found = people.release_console()
    click.echo(f"{found.name} is released." if found else "No console managed this engine.")


@admin.command()
@click.option("--limit", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--check", is_flag=True, help="Look whether a line was changed or taken out.")
@json_option
@click.pass_context
def audit(ctx: click.Context, limit: int, check: bool, as_json: bool) -> None:
    """Who changed what through the API, oldest first. --check: exit 1 if the chain is broken."""
    from openmse.api.audit import Audit

    kept = Audit(_places(ctx))
    if check:
        faults = kept.faults()
        for fault in faults:
            click.echo(fault)
        if faults:
            ctx.exit(1)
        click.echo("The audit is whole.")
        return
    entries = list(reversed(kept.newest(limit)))
    if as_json:
        print_json(entries)
    for entry in entries if not as_json else ():
        what = f"{entry.action} {entry.result}"
        click.echo(f"{entry.at}  {entry.who} from {entry.from_address}: {what}  {entry.sentence}")


@admin.group("config")
def config_group() -> None:
    """The settings of the management API."""


@config_group.command("check")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def check_config(file: Path | None) -> None:
    """Check FILE (default: this machine's); exit 2 with what is wrong and what to do."""
    path = file or settings.DEFAULT_PATH
    found = settings.load(path)
    shown = found.management.address or "the health monitor addresses"
    state = "is in order" if path.exists() else "does not exist, so the defaults hold"
    click.echo(f"{path} {state}: {shown}, port {found.management.port}.")


def _places(ctx: click.Context) -> ManagementPlaces:
    return ManagementPlaces.of(places(ctx).state_dir)


def _kept(ctx: click.Context) -> ManagementPlaces:
    # Who may change this node is written where its configuration says, or not at all.
    return ManagementPlaces.of(load_config(ctx).places.state_dir)


def _people(ctx: click.Context) -> People:
    kept = _kept(ctx)
    if os.geteuid() == 0:
        prepare(kept)
    return People(kept)
