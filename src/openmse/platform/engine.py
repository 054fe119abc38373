"""This engine's platform: who it is, what is licensed, and the changes that may be made to it.

The one entrance for commands, the management API and services. Reads files only; what the other
node has is brought here by ``openmse.platform.exchange``.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

from msgspec import Struct

from openmse import __version__
from openmse.platform import identity, licence_keys, measure, settings
from openmse.platform import udi as udis
from openmse.platform.errors import LicenceRefused
from openmse.platform.evaluation import (
    CLOCK_TOLERANCE,
    Group,
    Installed,
    Limits,
    evaluate,
    extends,
    is_activated,
    is_running,
    last_day,
    trusted_date,
)
from openmse.platform.licence import Kind, Licence, Type
from openmse.platform.licence_keys import Broken
from openmse.platform.machines import Machine, element_limit
from openmse.platform.peers import Told
from openmse.platform.settings import PlatformSettings
from openmse.platform.store import Held, LicenceStore, Line, Trusted, find
from openmse.platform.udi import Udi
from openmse.platform.who import peers_of

BY_MAX = 120
"""Characters kept of who made a change."""


class Done(Struct, frozen=True):
    """A change that was made, and its licence."""

    sentence: str
    licence: Licence


class Engine(Struct, frozen=True, kw_only=True):
    """One engine at one moment; cheap to make, holds nothing open."""

    settings: PlatformSettings
    machine: Machine
    udi: Udi
    peers: tuple[Told, ...]
    store: LicenceStore
    trusted: Trusted
    broken_keys: tuple[Broken, ...] = ()
    today: date

    @classmethod
    def open(cls, config: Path, state_dir: Path, me: str, *, today: date | None = None) -> Self:
        """The engine whose node ``me`` has its configuration in ``config``. Raises MseError."""
        chosen = settings.load(settings.path_beside(config))
        machine = measure.machine(chosen.platform.machine, state_dir)
        keys = licence_keys.load_trusted(settings.keys_beside(config))
        return cls(
            settings=chosen,
            machine=machine,
            udi=identity.udi(state_dir, machine),
            peers=peers_of(state_dir, me),
            store=LicenceStore(state_dir / "licences"),
            trusted=keys.keys,
            broken_keys=keys.broken,
            today=datetime.now(UTC).date() if today is None else today,
        )

    @property
    def group(self) -> Group:
        """The machines whose licences count here."""
        return Group(str(self.udi), frozenset(told.udi for told in self.peers))

    @property
    def platform_limit(self) -> int:
        """What the smallest machine of the group carries: limits are the same on both."""
        machines = (self.machine, *(told.machine for told in self.peers))
        return min(element_limit(machine) for machine in machines)

    def told(self, name: str) -> Told:
        """What this node tells the other of itself."""
        return Told(name, str(self.udi), self.machine, __version__)

    def held(self) -> Held:
        """Everything installed. Raises LicenceStoreError."""
        return self.store.read(self.trusted)

    def limits(self) -> Limits:
        """The limits in force and each licence's standing. Raises LicenceStoreError."""
        return self._limits(self.held())

    def look(self) -> tuple[Limits, tuple[Broken, ...]]:
        """The same, with files of keys and licences that are broken. Raises LicenceStoreError."""
        held = self.held()
        return self._limits(held), self.broken_keys + held.broken

    def _limits(self, held: Held) -> Limits:
        return evaluate(
            held.installed,
            self.group,
            dates=(self.today, held.ledger.latest_seen),
            platform_limit=self.platform_limit,
            is_licensing_on=self.settings.licensing.is_enabled,
        )

    def remember_today(self) -> None:
        """Note today's date, so that a clock that goes back is noticed. Raises StateError."""
        self.store.saw(self.today)

    def install(self, data: bytes, by: str = "") -> Done:
        """Install the licence in ``data``. Raises MseError, and then nothing has changed.

        ``by``: who asked for it, as lists show it.
        """
        licence = licence_keys.verify(data, self.trusted).licence
        held = self.held()
        as_of = trusted_date(self.today, held.ledger.latest_seen)
        self._check(licence, held, as_of)
        known = held.ledger.lines.get(licence.id)
        first = max(as_of, licence.issued) if known is None else known.first_installed
        line = Line(first, False, _now(), by[:BY_MAX])
        self.store.put({licence.id: data}, {licence.id: line}, as_of)
        return Done(f"Licence {licence.id} is installed: {describe(licence)}.", licence)

    def remove(self, identity: str, by: str = "") -> Done:
        """Remove an installed licence. Raises MseError, and then nothing has changed."""
        held = self.held()
        licence = find(held, identity)
        line = held.ledger.lines.get(licence.id)
        first = line.first_installed if line is not None else licence.issued
        gone = Line(first, True, _now(), by[:BY_MAX])
        self.store.put({}, {licence.id: gone}, self.today)
        return Done(f"Licence {licence.id} is removed: {describe(licence)}.", licence)

    def _check(self, licence: Licence, held: Held, as_of: date) -> None:
        """Raise LicenceRefused where a proven licence does not fit here."""
        if licence.id in {one.licence.id for one in held.installed}:
            raise _refused(f"Licence {licence.id} is installed already.", "Nothing is to be done.")
        self._check_bound(licence)
        if licence.issued > as_of + CLOCK_TOLERANCE:
            raise _refused(
                f"The licence was issued on {licence.issued}, but this machine's date is {as_of}.",
                "Set this machine's clock right (NTP), then install it again.",
            )
        if licence.type is Type.EXTENSION:
            self._check_base(licence, held)
        elif licence.type is Type.EVALUATION:
            self._check_days(licence, held, as_of)
        if licence.kind is not Kind.ACTIVATION and self.settings.licensing.is_enabled:
            self._check_activated(licence, held, as_of)

    def _check_bound(self, licence: Licence) -> None:
        """Raise LicenceRefused unless it is bound to a machine of the group, of the right type."""
        if licence.udi not in self.group.udis:
            wanted = udis.parse(licence.udi).product_id
            if wanted not in {udis.parse(udi).product_id for udi in self.group.udis}:
                raise _refused(
                    f"The licence is for an engine of the type {wanted} ({licence.udi}), but this "
                    f"engine is of the type {self.udi.product_id} ({self.udi}).",
                    "Have a licence issued for this engine's UDI.",
                )
            raise _refused(
                f"The licence is bound to engine {licence.udi}, but this engine is {self.udi}.",
                "Install it on that engine, or have it issued for this one.",
            )
        if licence.kind is Kind.ACTIVATION and not udis.parse(licence.udi).is_virtual:
            raise _refused(
                f"Engine {licence.udi} is no virtual appliance, so it needs no activation.",
                "Other licences can be installed on it at once.",
            )

    def _check_base(self, licence: Licence, held: Held) -> None:
        if not any(extends(licence, one.licence) for one in held.installed):
            raise _refused(
                f"The licence extends evaluation licence {licence.extends} ({licence.kind}), "
                "which is not installed.",
                "Install that one first.",
            )

    def _check_days(self, licence: Licence, held: Held, as_of: date) -> None:
        line = held.ledger.lines.get(licence.id)
        if line is None:
            return
        last = last_day(Installed(licence, line.first_installed), held.installed)
        if not is_running(last, as_of):
            raise _refused(
                f"The evaluation licence was first installed on {line.first_installed} and ended "
                f"on {last}.",
                "Install an extension, or a permanent licence.",
            )

    def _check_activated(self, licence: Licence, held: Held, as_of: date) -> None:
        activated = frozenset(
            one.licence.udi
            for one in held.installed
            if one.licence.kind is Kind.ACTIVATION
            and is_running(last_day(one, held.installed), as_of)
        )
        if not is_activated(licence.udi, activated):
            raise _refused(
                f"Engine {licence.udi} is a virtual appliance that is not activated.",
                "Install its activation licence first. Until then the built-in limits hold.",
            )


def describe(licence: Licence) -> str:
    """What a licence grants, in a few words."""
    what = licence.kind.value if not licence.quantity else f"{licence.quantity} {licence.kind}"
    match licence.type:
        case Type.PERMANENT:
            return f"{what}, permanent, for {licence.udi}"
        case Type.EVALUATION:
            return f"{what}, for {licence.days} days from its installation, for {licence.udi}"
        case Type.EXTENSION:
            return f"{what}, {licence.days} days more for licence {licence.extends}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _refused(sentence: str, hint: str) -> LicenceRefused:
    return LicenceRefused(f"{sentence} Nothing was changed.", hint)
