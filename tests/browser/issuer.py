"""Whoever runs a deployment: a key of their own, and licences that it signs."""

import secrets
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from openmse.node.drivers.store.machine import SOURCES
from openmse.node.drivers.store.machine import Machine as Names
from openmse.platform import identity, licence_keys
from openmse.platform.licence import Kind, Licence, Type


class Issuer:
    """Signs what engines that trust it install."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._made = licence_keys.make(directory / "deployment.key")
        self._key = licence_keys.load_private(self._made.private)
        self.directory = directory

    def trusted_by(self, config: Path) -> None:
        """Have an engine trust this key."""
        keys = config.parent / "licence-keys"
        keys.mkdir(exist_ok=True)
        (keys / "deployment.pub").write_bytes(self._made.public.read_bytes())

    def text(self, udi: str, kind: str, quantity: int = 0, **more: Any) -> str:
        """A licence's file; ``more``: type, days, extends, issued."""
        licence = Licence(
            id=secrets.token_hex(8),
            kind=Kind(kind),
            type=Type(more.get("type", "permanent")),
            udi=udi,
            quantity=quantity,
            days=more.get("days", 0),
            extends=more.get("extends", ""),
            issued=more.get("issued", _today()),
            issued_to="City hospital",
            issued_by="Network team",
        )
        return licence_keys.sign(licence, self._key).decode()

    def file(self, udi: str, kind: str, quantity: int = 0, **more: Any) -> Path:
        """The same on disk, as people upload it."""
        path = self.directory / f"{kind}-{secrets.token_hex(4)}.licence"
        path.write_text(self.text(udi, kind, quantity, **more))
        return path


def _today() -> date:
    return datetime.now(UTC).date()


def give_identity(state_dir: Path, name: str, machine: str) -> None:
    """A virtual appliance with a serial of its own: both nodes of a test share one machine."""
    stored = identity.Stored(
        f"{name}_6c1f7a52-0d3e-5b7a-9a51-5f6d3c2b1a{name[-1]:0>2}", Names.read(SOURCES).digests
    )
    (state_dir / identity.NAME).write_bytes(msgspec.json.encode(stored))
    be_machine(state_dir, machine)


def be_machine(state_dir: Path, machine: str, *, is_licensing_on: bool = True) -> None:
    """Say which machine of the catalogue it is; read anew each time."""
    is_on = str(is_licensing_on).lower()
    (state_dir.parent / "platform.toml").write_text(
        f'[platform]\nmachine = "{machine}"\n[licensing]\nis_enabled = {is_on}\n'
    )
