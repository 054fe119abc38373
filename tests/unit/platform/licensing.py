"""What the tests of licences share: keys, licences, engines in a directory."""

from datetime import date
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from openmse.platform import licence_keys
from openmse.platform.engine import Engine
from openmse.platform.licence import Kind, Licence, Type
from openmse.platform.machines import Machine, MachineKind
from openmse.platform.peers import Told
from openmse.platform.settings import LicensingSection, PlatformSettings
from openmse.platform.store import LicenceStore
from openmse.platform.udi import Udi

VIRTUAL = "AIR-MSE-VA-K9:V01:mse1_d0"
OTHER = "AIR-MSE-VA-K9:V01:mse2_d1"
PHYSICAL = "AIR-MSE-3355-K9:V01:KQ37"
STRANGER = "AIR-MSE-3355-K9:V01:XX"
DAY = date(2026, 1, 31)

BASE = Licence(
    id="00000000000000aa",
    kind=Kind.ELEMENTS,
    type=Type.PERMANENT,
    udi=PHYSICAL,
    quantity=500,
    issued=DAY,
    issued_to="A hospital",
    issued_by="Its operator",
)


def licence(number: int, **changes: Any) -> Licence:
    """A licence with its own id; ``changes`` from a permanent one for 500 elements."""
    return replace(BASE, **{"id": f"{number:016x}", **changes})


def activation(number: int, udi: str) -> Licence:
    return licence(number, kind=Kind.ACTIVATION, quantity=0, udi=udi)


def evaluation(number: int, days: int = 60, **changes: Any) -> Licence:
    return licence(number, type=Type.EVALUATION, days=days, **changes)


def extension(number: int, base: Licence, days: int = 30, **changes: Any) -> Licence:
    fixed: dict[str, Any] = {"kind": base.kind, "udi": base.udi, "quantity": 0, **changes}
    return licence(number, type=Type.EXTENSION, days=days, extends=base.id, **fixed)


class Deployment:
    """A key, and engines that trust it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = Ed25519PrivateKey.generate()
        public = self.key.public_key()
        self.trusted = {licence_keys.fingerprint(public): public}

    def sign(self, what: Licence) -> bytes:
        return licence_keys.sign(what, self.key)

    def engine(self, udi: str = PHYSICAL, *, today: date = DAY, **changes: Any) -> Engine:
        """The engine whose store is in this directory, on a day."""
        peers = tuple(
            Told(name, other, Machine(MachineKind.VA_LOW, True), "0.1.0")
            for name, other in changes.pop("peers", {}).items()
        )
        return Engine(
            settings=PlatformSettings(licensing=LicensingSection(changes.pop("is_on", True))),
            machine=changes.pop("machine", Machine(MachineKind.MSE_3355, False)),
            udi=Udi(*udi.split(":")),
            peers=peers,
            store=LicenceStore(self.directory / changes.pop("name", "licences")),
            trusted=changes.pop("trusted", self.trusted),
            today=today,
        )
