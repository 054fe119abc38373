"""What the guide's status commands, the journal and the configuration tell, for the API.

Everything here blocks, so it runs in threads; the health monitor's picture is given.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.api.config import ManagementConfig
from openmse.api.context import Context
from openmse.api.errors import NotFound
from openmse.cli.config_faults import ConfigFault, faults_of
from openmse.cli.journal_steps import JournalStep, Shown, shown, step_of
from openmse.cli.platform_machine import service_facts
from openmse.errors import ConfigError
from openmse.node.config import NodeConfig
from openmse.node.config_load import load
from openmse.node.control.snapshot import Snapshot
from openmse.node.runtime.journal import files
from openmse.node.runtime.replay import Reader
from openmse.platform import who
from openmse.platform.status import collect
from openmse.platform.status.ha_info import HaInfo
from openmse.platform.status.server_info import ServerInfo

DEFAULT_STEPS = 200
MAX_STEPS = 1000
MAX_PAGE_BYTES = 1 << 20
"""A page ends with the step that passes this, however many were asked for."""
_USERINFO = re.compile(r"//[^/?#]*@")


class JournalPage(Struct, frozen=True, kw_only=True):
    """A part of one file of the decision journal, oldest first."""

    name: str
    steps: tuple[JournalStep, ...]
    is_more: bool
    """Later steps match: ask for those after ``last_line``."""
    last_line: int
    """Of the last step here; the line that was asked for where there is none."""
    damaged: int
    """Lines of the file, as far as it was read, that cannot be read."""


class ConfigView(Struct, frozen=True, kw_only=True):
    """The settings of this machine, defaults included; no secret stands in them."""

    path: str
    config: NodeConfig | None
    """The file as it is now; null where it has faults."""
    faults: tuple[ConfigFault, ...]
    is_as_started: bool
    """Whether this process was started with the same; what is new holds from the next start on."""
    management: ManagementConfig
    """Those of this process, as they are in force."""


def server_info(ctx: Context, picture: Snapshot | None) -> ServerInfo:
    """What ``getserverinfo`` shows; ``picture`` is None while the health monitor does not run."""
    if picture is None:
        return ServerInfo(is_running=False)
    return collect.server_info(picture, ctx.node.places, _who(ctx), service_facts())


def ha_info(ctx: Context, picture: Snapshot | None) -> HaInfo:
    """What ``gethainfo`` shows: what was saved last while the health monitor does not run.

    Raises: StateError where that cannot be read.
    """
    if picture is not None:
        return collect.ha_info(picture, _who(ctx))
    return collect.saved_ha_info(collect.saved(ctx.node.places), ctx.node, _who(ctx))


def _who(ctx: Context) -> who.Who:
    return who.read(ctx.node_path, ctx.node.places.state_dir, ctx.node.node.name)


def journal_page(
    ctx: Context, name: str, *, after: int, limit: int, decisions: bool
) -> JournalPage:
    """The steps behind line ``after`` of a journal's file. Raises NotFound, StateError."""
    path = next((one for one in files(ctx.node.places.journal) if one.name == name), None)
    if path is None:
        raise NotFound("The journal has no such file.", "GET /v1/journal lists the files it has.")
    reader = Reader(path)
    steps, last_line, is_more = _cut(shown(reader, decisions=decisions), after, limit)
    return JournalPage(
        name=name, steps=steps, is_more=is_more, last_line=last_line, damaged=reader.damaged
    )


def _cut(
    found: Iterator[Shown], after: int, limit: int
) -> tuple[tuple[JournalStep, ...], int, bool]:
    """At most ``limit`` steps and about ``MAX_PAGE_BYTES``, the last one's line, whether more
    follow. Pure."""
    steps: list[JournalStep] = []
    size, last_line = 0, after
    for entry, effects in found:
        if entry.line <= after:
            continue
        if len(steps) >= limit or size > MAX_PAGE_BYTES:
            return tuple(steps), last_line, True
        steps.append(step_of(entry, effects))
        size += len(msgspec.json.encode(steps[-1]))
        last_line = entry.line
    return tuple(steps), last_line, False


def config_view(ctx: Context) -> ConfigView:
    """The file as it is at this moment, and what is wrong with it."""
    config: NodeConfig | None = None
    faults: tuple[ConfigFault, ...] = ()
    try:
        config = load(ctx.node_path)
    except ConfigError as error:
        faults = _faults(ctx.node_path, error)
    return ConfigView(
        path=str(ctx.node_path),
        config=_without_secrets(config) if config is not None else None,
        faults=faults,
        is_as_started=config == ctx.node,
        management=ctx.config,
    )


def _faults(path: Path, error: ConfigError) -> tuple[ConfigFault, ...]:
    try:
        return tuple(faults_of(path, error))
    except (OSError, UnicodeDecodeError):  # it went, or was changed, just now
        return (ConfigFault(key="", line=None, sentence=error.sentence, hint=error.hint),)


def _without_secrets(config: NodeConfig) -> NodeConfig:
    """Secrets never stand in the file; an address with a password in it is cut all the same."""
    hidden = tuple(_USERINFO.sub("//…@", one) for one in config.witness.endpoints)
    return msgspec.structs.replace(
        config, witness=msgspec.structs.replace(config.witness, endpoints=hidden)
    )
