"""``mse license keygen`` and ``issue``: for whoever runs a deployment, on any machine."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import click
from msgspec import Struct

from openmse.cli.machine import json_option, print_json
from openmse.errors import UsageError
from openmse.pki.files import PUBLIC, write_file
from openmse.platform import licence_keys
from openmse.platform.engine import describe
from openmse.platform.licence import Kind, Licence, Type, faults_of

KEYS = "/etc/openmse/licence-keys/"


class Made(Struct, frozen=True):
    """``keygen --json``. Never the key itself."""

    private_key_file: str
    public_key_file: str
    key_id: str


class Issued(Struct, frozen=True):
    """``issue --json``."""

    file: str
    key_id: str
    licence: Licence


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def keygen(file: Path, as_json: bool) -> None:
    """Make a key in FILE (mode 0600) and its public half in FILE.pub. The key is never shown."""
    made = licence_keys.make(file)
    if as_json:
        print_json(Made(str(made.private), str(made.public), made.id))
        return
    click.echo(f"Key {made.id} is made. Keep {made.private} secret, and a copy of it safe.")
    click.echo(f"Put {made.public} into {KEYS} on both nodes of each pair that shall trust it.")


@click.command()
@click.option("--key", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--udi", required=True, help="The engine's, as 'mse license list' shows it.")
@click.option("--kind", required=True, type=click.Choice([kind.value for kind in Kind]))
@click.option(
    "--type", "term", default=Type.PERMANENT.value, type=click.Choice([t.value for t in Type])
)
@click.option("--quantity", default=0, help="How many; not for activation and extensions.")
@click.option("--days", default=0, help="For evaluation and extension.")
@click.option("--extends", default="", metavar="ID", help="The evaluation that it lengthens.")
@click.option("--issued-to", required=True, metavar="NAME")
@click.option("--issued-by", required=True, metavar="NAME")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@json_option
def issue(as_json: bool, key: Path, out: Path, term: str, **facts: str | int) -> None:
    """Sign a licence for one engine with your own key, and write it to a new file."""
    licence = _licence(Type(term), facts, datetime.now(UTC).date())
    fault = next(faults_of(licence), "")
    if fault:
        raise UsageError(f"No licence was issued: {fault}.", "See 'mse license issue --help'.")
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already, so no licence was issued.", "Name another file.")
    private = licence_keys.load_private(key)
    write_file(out, licence_keys.sign(licence, private), mode=PUBLIC)
    if as_json:
        print_json(Issued(str(out), licence_keys.fingerprint(private.public_key()), licence))
        return
    click.echo(f"Licence {licence.id} is in {out}: {describe(licence)}.")


def _licence(term: Type, facts: dict[str, str | int], today: date) -> Licence:
    return Licence(
        id=os.urandom(8).hex(),
        kind=Kind(str(facts["kind"])),
        type=term,
        udi=str(facts["udi"]),
        quantity=int(facts["quantity"]),
        days=int(facts["days"]),
        extends=str(facts["extends"]),
        issued=today,
        issued_to=str(facts["issued_to"]),
        issued_by=str(facts["issued_by"]),
    )
