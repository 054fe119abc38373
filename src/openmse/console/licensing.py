"""Licences at an engine, as pages and the API do it: one path of checks, audit and history."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import quote, urlencode

from fastapi import Request

from openmse.console.context import Console
from openmse.console.errors import NoLicenceFile, NotFound
from openmse.console.live.feed import EngineFeed
from openmse.console.live.licences import Removal, removal_of
from openmse.console.live.pairs import pair_of
from openmse.console.nodes.licences import (
    MAX_BYTES,
    LicenceChanged,
    Licences,
    LicencesShared,
)
from openmse.console.people.roles import Principal
from openmse.errors import MseError

T = TypeVar("T", LicenceChanged, LicencesShared)
HISTORY = "licence"


def checked_text(data: bytes) -> str:
    """The text of an uploaded file, byte for byte; raises NoLicenceFile. Pure."""
    if not data:
        raise NoLicenceFile("The file is empty; nothing was changed.")
    if len(data) > MAX_BYTES:
        raise NoLicenceFile(
            f"The file has {len(data):,} bytes; a licence has {MAX_BYTES:,} at most. Nothing was "
            "changed."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        sentence = "The file is not text (UTF-8), so it is no licence; nothing was changed."
        raise NoLicenceFile(sentence) from error


async def read(console: Console, engine_id: int) -> Licences:
    """What is licensed on an engine at this moment. Raises MseError."""
    return await console.fleet.feed(engine_id).refresh_licences()


async def removal(console: Console, engine_id: int, identity: str) -> tuple[Licences, Removal]:
    """What removing a licence would change, and what holds now. Raises NotFound, or MseError where
    the engine does not tell what is installed."""
    found = console.fleet.get(engine_id).licences
    one = found.licence(identity) if found is not None else None
    if found is None or one is None:
        found = await read(console, engine_id)
        one = found.licence(installed(found, identity))
    assert one is not None
    return found, removal_of(found, one)


async def install(
    console: Console, request: Request, principal: Principal, engine_id: int, text: str
) -> LicenceChanged:
    """Install a licence on an engine. Raises MseError, and then nothing has changed."""
    feed = console.fleet.feed(engine_id)
    body = {"text": text, "on_behalf_of": principal.who[:80]}

    async def ask() -> LicenceChanged:
        found: LicenceChanged = await feed.client.send(
            "POST", "/v1/licences", body, kind=LicenceChanged
        )
        return found

    return await _changed(console, request, principal, (feed, "install licence"), ask)


async def remove(
    console: Console, request: Request, principal: Principal, engine_id: int, identity: str
) -> LicenceChanged:
    """Remove a licence from an engine and its peer. Raises MseError; then nothing has changed."""
    feed = console.fleet.feed(engine_id)
    query = urlencode({"on_behalf_of": principal.who[:80]})
    path = f"/v1/licences/{quote(identity, safe='')}?{query}"

    async def ask() -> LicenceChanged:
        found: LicenceChanged = await feed.client.send("DELETE", path, kind=LicenceChanged)
        return found

    return await _changed(console, request, principal, (feed, "remove licence"), ask)


async def share(
    console: Console, request: Request, principal: Principal, engine_id: int
) -> LicencesShared:
    """Have both machines of a pair hold the same licences. Raises MseError."""
    feed = console.fleet.feed(engine_id)

    async def ask() -> LicencesShared:
        found: LicencesShared = await feed.client.send(
            "POST", "/v1/licences/sync", kind=LicencesShared
        )
        return found

    return await _changed(console, request, principal, (feed, "share licences"), ask)


async def _changed(
    console: Console,
    request: Request,
    principal: Principal,
    what: tuple[EngineFeed, str],
    ask: Callable[[], Awaitable[T]],
) -> T:
    """Ask the engine, note what came of it, and read the limits that follow, on both machines."""
    feed, action = what
    engine = feed.live.engine

    async def note(outcome: str, sentence: str) -> None:
        await asyncio.to_thread(
            lambda: console.note(
                request, principal, action, target=engine.name, outcome=outcome, detail=sentence
            )
        )
        history = "done" if outcome == "done" else "failed"
        await asyncio.to_thread(
            console.engines.note_sync, engine.id, HISTORY, history, f"{principal.who}: {sentence}"
        )

    try:
        done = await ask()
    except MseError as error:
        await note("refused", error.sentence)
        raise
    sentence = " ".join(part for part in (done.sentence, getattr(done, "exchange", "")) if part)
    await note("done", sentence)
    await _read_both(console, feed)
    return done


async def _read_both(console: Console, feed: EngineFeed) -> None:
    """Have the other machine of a pair take what it may have only in its database so far, and read
    what both hold now; what fails here both machines make good by themselves."""
    changed_id = feed.live.engine.id
    pair = pair_of(console.fleet.all(), changed_id)
    for engine_id in pair.engine_ids if pair else (changed_id,):
        with suppress(MseError):
            if engine_id != changed_id:
                await console.fleet.feed(engine_id).client.send("POST", "/v1/licences/sync")
            await read(console, engine_id)


def installed(found: Licences, identity: str) -> str:
    """The id if that licence is installed; raises NotFound."""
    if found.licence(identity) is None:
        raise NotFound(
            f"Licence {identity[:40]} is not installed on this engine; nothing was changed.",
            "It may have been removed meanwhile: see the list.",
        )
    return identity
