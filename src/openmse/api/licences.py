"""What is licensed on this engine, for the API: everything here blocks, so it runs in threads."""

import contextlib
from datetime import date

from msgspec import Struct

from openmse.api.context import Context
from openmse.errors import DaemonDownError, MseError
from openmse.node import group as group_file
from openmse.node.control.client import ControlClient
from openmse.node.control.snapshot import Snapshot
from openmse.platform.engine import Done, Engine
from openmse.platform.errors import LicenceStoreError
from openmse.platform.evaluation import LicenceView, Limit
from openmse.platform.exchange import Exchanged, reconcile, right
from openmse.platform.licence import Licence
from openmse.platform.licence_keys import Broken


class LicencesView(Struct, frozen=True, kw_only=True):
    """What is licensed: the limits in force, and each licence with its standing."""

    udi: str
    is_licensing_on: bool
    is_activation_needed: bool
    is_activated: bool
    """This machine, not its peer; true where none is needed."""
    limits: tuple[Limit, ...]
    licences: tuple[LicenceView, ...]
    broken: tuple[Broken, ...]
    """Files that do not count, and why."""
    as_of: date
    is_clock_back: bool


class LicenceChanged(Struct, frozen=True, kw_only=True):
    """A licence that was installed or removed. ``exchange``: how the other node gets it."""

    sentence: str
    licence: Licence
    exchange: str


def engine_of(ctx: Context) -> Engine:
    """This engine as it is now. Raises MseError."""
    return Engine.open(ctx.node_path, ctx.node.places.state_dir, ctx.node.node.name)


def look(ctx: Context) -> LicencesView:
    """Everything at this moment. Raises MseError."""
    engine = engine_of(ctx)
    with contextlib.suppress(LicenceStoreError):  # a full disk keeps nobody from looking
        engine.remember_today()
    limits, broken = engine.look()
    return LicencesView(
        udi=limits.udi,
        is_licensing_on=limits.is_licensing_on,
        is_activation_needed=limits.is_activation_needed,
        is_activated=limits.is_activated,
        limits=limits.limits,
        licences=limits.licences,
        broken=broken,
        as_of=limits.as_of,
        is_clock_back=limits.is_clock_back,
    )


def install(ctx: Context, data: bytes, by: str) -> LicenceChanged:
    """Install a licence; raises MseError, and then nothing has changed. ``by``: who asked."""
    _exchanged(ctx)  # what the other node has counts in what this one may install
    return _changed(ctx, engine_of(ctx).install(data, by))


def remove(ctx: Context, identity: str, by: str) -> LicenceChanged:
    """Remove a licence; raises MseError, and then nothing has changed. ``by``: who asked."""
    _exchanged(ctx)
    return _changed(ctx, engine_of(ctx).remove(identity, by))


def exchange(ctx: Context) -> Exchanged:
    """Have both nodes hold the same licences. Raises MseError; what is here stays as it is."""
    places = ctx.node.places
    group = group_file.load(places.group)
    with ControlClient(places.control_socket) as client:
        picture: Snapshot = client.call("status", type=Snapshot)
    return reconcile(engine_of(ctx), ctx.node, group, right(picture))


def _changed(ctx: Context, done: Done) -> LicenceChanged:
    return LicenceChanged(sentence=done.sentence, licence=done.licence, exchange=_exchanged(ctx))


def _exchanged(ctx: Context) -> str:
    """The exchange beside a change that is made anyway: what came of it, as a sentence."""
    try:
        return exchange(ctx).sentence
    except DaemonDownError:
        return "The health monitor is stopped: the other node is told by a later exchange."
    except MseError as error:
        return f"{error.sentence} {error.hint}".strip()
