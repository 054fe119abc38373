"""Commands that make, change and dissolve the group."""

import ipaddress

import click

from openmse import ports
from openmse.cli.machine import config_path, connect, load_config, perform, status, tell
from openmse.cli.passwords import password
from openmse.errors import CommandRefused, UsageError
from openmse.install.engine.parts import admin_address
from openmse.node.config import NodeConfig, Role, WitnessKind, WitnessSection
from openmse.node.control.commands import PairArgs, ReadmitArgs, UnpairArgs, WitnessArgs
from openmse.platform import candidate

_kind = click.Choice([kind.value for kind in WitnessKind if kind is not WitnessKind.NONE])


@click.command()
@click.option("--peer", required=True, metavar="ADDRESS", help="The secondary's own address.")
@click.option(
    "--password-file", default="", metavar="FILE", help="Its pairing password ('-': stdin)."
)
@click.option("--port", default=0, metavar="PORT", help="Its pairing port, if not the default.")
@click.option(
    "--management-port", default=0, metavar="PORT", help="Its management API's, if not as here."
)
@click.option("--witness", default="", metavar="ADDRESS", help="The witness's own address.")
@click.option("--witness-password-file", default="", metavar="FILE", help="The witness's password.")
@click.option("--witness-port", default=0, metavar="PORT", help="Its pairing port.")
@click.option("--no-witness", is_flag=True, help="Without a third vote, whatever the file says.")
@click.pass_context
def pair(ctx: click.Context, /, **options: str | int | bool) -> None:
    """Make a pair of this primary and a secondary, and enrol a witness.

    Run it on the primary while both daemons run. On the secondary 'mse node init' was given the
    same pairing password. The password never crosses the wire. What [witness] in the
    configuration file says is used where --witness is not given. The secondary is asked what
    machine it runs on, and refused if it does not back this one.
    """
    config = load_config(ctx)
    if config.node.role is not Role.PRIMARY:
        raise UsageError(
            f"This node is configured as the {config.node.role.value}; nothing was changed.",
            "Pair from the primary; or correct node.role.",
        )
    peer = address(str(options["peer"]), "--peer")
    if peer in (config.node.host, config.node.host6):
        raise UsageError("The peer's address is this node's own; nothing was changed.")
    with connect(ctx) as client:
        if status(client).peer is not None:  # before anybody is asked for passwords
            raise CommandRefused(
                "This node is paired already; nothing was changed.",
                "'mse ha unpair' dissolves the pair first.",
            )
        _compare_machines(ctx, config, peer, int(options["management_port"]))
        witness = None if options["no_witness"] else _witness_for_pairing(config, options)
        secret = password(str(options["password_file"]), "Pairing password of the secondary")
        port = int(options["port"]) or config.ports.pairing
        tell(perform(client, "pair", PairArgs(peer, secret, port, witness)))


def _compare_machines(ctx: click.Context, config: NodeConfig, peer: str, port: int) -> None:
    """Raise PairingMatrixRefused where the two make no pair; say so where nobody can tell."""
    here = candidate.this_machine(config_path(ctx), config.places.state_dir)
    port = port or admin_address(config)[1]
    unknown = candidate.compare(here, peer, port, is_direct=bool(config.node.direct_host))
    if unknown:
        click.echo(unknown, err=True)


def _witness_for_pairing(
    config: NodeConfig, options: dict[str, str | int | bool]
) -> WitnessArgs | None:
    section = config.witness
    if options["witness"]:
        return _console(
            section.name,
            str(options["witness"]),
            int(options["witness_port"]),
            str(options["witness_password_file"]),
        )
    if section.kind is WitnessKind.NONE:
        return None
    if section.kind is WitnessKind.CONSOLE:
        return _console(
            section.name,
            section.address,
            int(options["witness_port"]),
            str(options["witness_password_file"]),
        )
    return _etcd(section)


def _etcd(section: WitnessSection) -> WitnessArgs:
    return WitnessArgs(
        kind=WitnessKind.ETCD.value,
        name=section.name,
        endpoints=section.endpoints,
        ca_file=section.ca_file,
        cert_file=section.cert_file,
        key_file=section.key_file,
    )


def _console(name: str, host: str, port: int, password_file: str) -> WitnessArgs:
    return WitnessArgs(
        kind=WitnessKind.CONSOLE.value,
        name=name,
        address=address(host, "--witness"),
        pairing_port=port or ports.PAIRING,
        password=password(password_file, "Password of the witness"),
    )


def address(text: str, option: str) -> str:
    """An IP address in its plain form; raises UsageError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise UsageError(
            f"'{text}' ({option}) is not an IP address; nothing was changed.",
            "Write the machine's own address, without a prefix.",
        ) from error


@click.command()
@click.option("--without-peer", is_flag=True, help="Although the other node cannot be told.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def unpair(ctx: click.Context, without_peer: bool, yes: bool) -> None:
    """Dissolve the pair: the owner goes on unpaired, the other node forgets the group.

    Works from either node. The databases stay where they are.
    """
    with connect(ctx) as client:
        if not yes:
            click.confirm("Dissolve the pair?", abort=True, err=True)
        tell(perform(client, "unpair", UnpairArgs(without_peer)))


@click.command()
@click.option("--password-file", default="", metavar="FILE", help="A new password ('-': stdin).")
@click.option(
    "--minutes", default=60, type=click.IntRange(1, 1440), show_default=True, help="How long."
)
@click.option("--cancel", "cancels", is_flag=True, help="Wait no longer, and close the port.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def readmit(
    ctx: click.Context, /, *, password_file: str, minutes: int, cancels: bool, yes: bool
) -> None:
    """Wait for a new machine that takes the place of the other node, which is lost for good.

    Run it on the node that owns, then 'mse setup --recover-from' on the new machine with the same
    password. The new machine gets a name of its own; the lost one is no party any more from then
    on. Refused while the other node is heard.

    With --cancel a wait is ended at once, whoever began it: its password is void, and a new
    machine that has not come to the end is refused.
    """
    if cancels:
        _end_wait(ctx, has_password=bool(password_file))
        return
    with connect(ctx) as client:
        peer = status(client).peer
        if peer is not None and not yes:
            click.confirm(
                f"Shall a new machine take the place of {peer.name}, which never comes back?",
                abort=True,
                err=True,
            )
        secret = password(password_file, "Password for the new machine", confirm=True)
        tell(perform(client, "readmit", ReadmitArgs(secret, minutes * 60.0)))


def _end_wait(ctx: click.Context, *, has_password: bool) -> None:
    if has_password:
        raise UsageError(
            "--cancel ends a wait and --password-file begins one; nothing was changed.",
            "Give one of the two.",
        )
    with connect(ctx) as client:
        tell(perform(client, "readmit_cancel"))


@click.group()
def witness() -> None:
    """Replace or remove the third vote while the pair runs."""


@witness.command()
@click.option("--address", "host", default="", metavar="ADDRESS", help="kind console: its address.")
@click.option("--kind", type=_kind, default=WitnessKind.CONSOLE.value, show_default=True)
@click.option("--name", default="witness", show_default=True, help="A name no other voter has.")
@click.option("--port", default=0, metavar="PORT", help="Its pairing port.")
@click.option("--password-file", default="", metavar="FILE", help="Its password ('-': stdin).")
@click.option("--endpoint", "endpoints", multiple=True, metavar="URL", help="kind etcd.")
@click.option("--ca-file", default="", metavar="FILE", help="kind etcd.")
@click.option("--cert-file", default="", metavar="FILE", help="kind etcd.")
@click.option("--key-file", default="", metavar="FILE", help="kind etcd.")
@click.pass_context
def replace(ctx: click.Context, /, **options: str) -> None:
    """Enrol another witness and give it the vote of the present one (or of none)."""
    with connect(ctx) as client:
        if options["kind"] == WitnessKind.CONSOLE.value:
            port = int(options["port"])
            args = _console(options["name"], options["host"], port, options["password_file"])
        elif not options["endpoints"]:
            raise UsageError("An etcd witness needs --endpoint; nothing was changed.")
        else:
            args = WitnessArgs(
                kind=WitnessKind.ETCD.value,
                name=options["name"],
                endpoints=tuple(options["endpoints"]),
                ca_file=options["ca_file"],
                cert_file=options["cert_file"],
                key_file=options["key_file"],
            )
        tell(perform(client, "replace_witness", args))


@witness.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def remove(ctx: click.Context, yes: bool) -> None:
    """Go on without a third vote: the owner is pinned, there is no automatic takeover."""
    with connect(ctx) as client:
        if not yes:
            click.confirm("Without a witness nobody takes over by itself. Go on?", abort=True)
        tell(perform(client, "remove_witness"))
