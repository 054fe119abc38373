"""What an engine tells may be anything: no page of it ends, freezes or misleads those of others."""

import asyncio
import contextlib
import logging
import re
import time
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest

from openmse.console.app import make_console
from openmse.console.errors import FormError
from openmse.console.filters import instant, segment
from openmse.console.live import hub as hub_module
from openmse.console.live.actions import STEPS_MAX, merged
from openmse.console.live.feed import bounded
from openmse.console.live.hub import OWN_STREAMS_MAX, Hub, TooManyStreams
from openmse.console.live.licences import Removal
from openmse.console.live.timeline import place, timeline
from openmse.console.managing import checked_address, checked_name
from openmse.console.nodes.licences import LicenceFacts, Licences, Licensed
from openmse.console.nodes.models import TEXT_MAX, LogEntry, Operation, RunningStep, refusal
from openmse.console.people.login import check_new_user
from openmse.console.people.roles import Principal, Role
from openmse.console.rendering import Templates
from openmse.console.sentences import TEXT_MAX as SENTENCE_MAX
from openmse.console.sentences import sentences
from openmse.console.settings import ConsoleSettings, PathsPart
from openmse.console.store.engines import Engine
from openmse.console.store.past import Action, Event
from openmse.console.store.store import open_store

NO_YEAR = "0001-01-01T00:00:00+23:59"
"""An instant, but none in UTC."""


async def test_a_page_that_cannot_be_rendered_ends_no_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the streams that are open nor those that come; the log has it once."""
    monkeypatch.setattr(hub_module, "TICK_S", 0.05)
    monkeypatch.setattr(hub_module, "SPACING_S", 0.01)
    number = count()

    def broken(_argument: str, _language: str) -> dict[str, str]:
        raise StopIteration

    hub = Hub({"broken": broken, "good": lambda _argument, _language: {"cell": str(next(number))}})
    ticking = asyncio.create_task(hub.run())
    try:
        with caplog.at_level(logging.ERROR, "openmse.console"):
            stream = hub.stream(("broken:1", "good:1"), "en", "1")
            async with asyncio.timeout(20):
                assert b"event: good:1" in await anext(stream)
                found = b""
                while found.count(b"event: good:1") < 2:
                    found += await anext(stream)
            await stream.aclose()
        assert not ticking.done()
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
    told = [record for record in caplog.records if record.name == "openmse.console"]
    assert len(told) == 1


async def test_one_person_leaves_room_for_others() -> None:
    """Whoever may look could take every place otherwise."""
    hub = Hub({})
    mine = [hub.stream((), "en", "1") for _ in range(OWN_STREAMS_MAX)]
    for stream in mine:
        assert await anext(stream)
    with pytest.raises(TooManyStreams):
        hub.require_room("1")
    hub.require_room("2")
    await mine[0].aclose()
    hub.require_room("1")
    for stream in mine[1:]:
        await stream.aclose()


async def test_no_page_makes_the_console_wait_for_its_store(tmp_path: Path) -> None:
    """An action that has ended long ago is read once, when its page asks for what is new."""
    settings = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path)))
    console = make_console(settings, open_store(settings))
    for state in ("done", "running"):
        console.past.keep_action(
            Action(id=state, kind="drill", engine_id=1, title="a", who="anna", state=state,
                   started_at="")
        )  # fmt: skip
        assert console.hub._render(f"action:{state}", "en") == {}, "not at hand"
        await console.actions.recall(state)
    await console.actions.recall("none")
    assert "done" in console.hub._render("action:done", "en")["action-state"]
    assert console.actions.running_of((1,)) is None
    console.store.close()


def test_a_topic_of_a_browser_may_be_nonsense(tmp_path: Path) -> None:
    """Its page shows nothing; nothing is remembered of engines that are none."""
    settings = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path)))
    console = make_console(settings, open_store(settings))
    for kind in ("rows", "engine", "pair", "pairs", "chart", "action"):
        for argument in ("", "x", "²", "-1", "01", "9" * 5000, "1\n2", "-".join("1" * 500)):
            assert console.hub._render(f"{kind}:{argument}", "en") == {}
    assert not console.hub._told
    console.fleet.watch(5)
    assert console.fleet._watched() == ()
    console.store.close()


def _event(kind: str, sentence: str, at: str = "2026-01-31T03:00:00.000+00:00") -> Event:
    return Event(
        engine_id=1, cursor="1-1", at=at, node="a", kind=kind, severity="info", sentence=sentence
    )


def test_instants_and_numbers_that_are_none() -> None:
    """A page of events and a timeline show what they can."""
    assert instant(NO_YEAR) == NO_YEAR
    assert place("yesterday", "2026-01-31T03:00:00Z", "2026-01-31T04:00:00Z") == 0.0
    endless = _event("config_chosen", f"SYNC(a), term {'9' * 5000}, epoch 1: x.")
    assert timeline([endless]).reigns == ()
    steps = _event("handover_done", f"Done. Steps: stop {'9' * 5000} ms.")
    assert len(timeline([steps]).moves) == 1


@pytest.mark.timeout(20)
def test_no_sentence_takes_for_ever() -> None:
    """Made so that the parts of a pattern fit in very many ways."""
    began = time.process_time()
    assert timeline([_event("handover_done", " Steps: " + ".11" * 40 + "!")]).moves
    japanese = sentences("ja")
    many = "(" * 400 + "), term 1" * 60 + ", epoch 2" * 60
    assert len(many) < SENTENCE_MAX
    assert japanese.known(many) is None
    assert japanese.known(many * 1000) is None
    both_open = [p for p in japanese.patterns if p.names and not p.literals[0]]
    assert len(both_open) > 20
    every = " ".join(one.literal for one in both_open if not one.literals[-1])
    japanese.known((every * 20)[:SENTENCE_MAX])
    assert time.process_time() - began < 5.0


def test_the_two_ways_to_read_a_pattern() -> None:
    """As short and as long as can be; what stands between is found wherever it may be."""
    literals = ("", "(", "), term ", ", epoch ", ": ", "")
    (shape,) = [p for p in sentences("ja").patterns if p.literals == literals]
    text = "ALONE(a(b), term 3, epoch 4: x: y"
    assert list(shape.readings(text)) == [
        {"1": "ALONE", "2": "a(b", "3": "3", "4": "4", "5": "x: y"},
        {"1": "ALONE(a", "2": "b", "3": "3", "4": "4: x", "5": "y"},
    ]
    assert list(shape.readings("ALONE(a), epoch 4, term 3: x")) == []


def test_an_event_is_kept_up_to_a_length() -> None:
    """And as it is below that."""
    entry = LogEntry(cursor="1-1", sentence="x" * 1_000_000, kind="role")
    assert len(bounded(entry).sentence) == TEXT_MAX
    assert bounded(entry).kind == "role"
    small = LogEntry(cursor="1-1", sentence="It owns.")
    assert bounded(small) is small


def test_what_an_engine_refuses_or_does_is_kept_up_to_a_length() -> None:
    """The audit keeps it for ever, and an action is written with each of its steps."""
    long = "x" * 20_000
    field = f'{{"field": "{long}", "sentence": "{long}"}}'
    fields = ", ".join([field.replace("xx", f"{n}x", 1) for n in range(60)])
    text = f'{{"error": {{"code": "{long}", "sentence": "{long}", "fields": [{fields}]}}}}'
    refused = refusal(text.encode(), 409, "mse1")
    assert (len(refused.sentence), len(refused.code)) == (TEXT_MAX, 64)
    assert sum(map(len, refused.fields.values())) <= 50 * TEXT_MAX
    steps = tuple(RunningStep(name=long, ms=1.0, sentence=long) for _ in range(1000))
    action = Action(
        id="1", kind="drill", engine_id=1, title="a", who="anna", state="running", started_at=""
    )
    found = merged(action, Operation(id="1", steps=steps, sentence=long), ((), ()))
    assert (len(found.steps), len(found.sentence)) == (STEPS_MAX, TEXT_MAX)
    assert all(len(step.name) == len(step.sentence) == TEXT_MAX for step in found.steps)


def test_an_outcome_that_nobody_knows_is_shown() -> None:
    """As it came."""
    action = Action(
        id="1", kind="drill", engine_id=1, title="a", who="anna", state="dance", started_at=""
    )
    cells = Templates("console").cells("cells/action.html", "en", {"a": action})
    assert "dance" in cells["state"]


HOSTILE = ("..\\..\\2\\delete?", "../../2/delete", "x#y", "share?", "%2e%2e", "a b")


@pytest.mark.parametrize("identity", HOSTILE)
def test_a_licence_s_name_leads_nowhere_else(identity: str) -> None:
    """An administrator who removes it asks this of that engine, and of nobody else."""
    engine = Engine(
        id=1, name="a", address="10.0.0.1", port=8466, contact="", certificate=b"", fingerprint="",
        token="", node="a", udi="", device_type="", version="1", role="primary", group_key="",
        added_at="", added_by="",
    )  # fmt: skip
    one = Licensed(licence=LicenceFacts(id=identity, kind="cas", type="permanent"))
    found = Licences(licences=(one,))
    who = Principal(user_id=1, name="anna", role=Role.ADMINISTRATOR, kind="user", csrf="c")
    values = {
        "engine": engine,
        "pair": None,
        "found": found,
        "removal": Removal(one=one, changes=(), stopped=0, is_known=True),
        "principal": who,
        "back": "",
        "error": None,
    }
    templates = Templates("console")
    dialog = templates.page("licences/remove.html", "en", values)
    module: Any = templates._environments["en"].get_template("components/licences.html").module
    table = module.licences_table(found, engine, who, _mark, lambda *_: None, {})
    urls = re.findall(r'(?:action|hx-post|hx-get)="([^"]*)"', f"{dialog} {table}")
    assert len(urls) == 3
    for url in map(unescape, urls):
        assert re.fullmatch(r"/engines/1/licences/[^/\\?#]+/remove", url)
        assert unquote(url) == f"/engines/1/licences/{identity}/remove"


@pytest.mark.parametrize("identity", ["", ".", ".."])
def test_a_licence_s_name_that_browsers_take_for_a_step(identity: str) -> None:
    """Whatever it is written as, so it must lead to no licence: never up to the engine itself."""
    found = urljoin("https://x/engines/1/licences/", f"{segment(identity)}/remove")
    assert found == f"https://x/engines/1/licences/{identity}%20/remove"


def _mark(*_: object) -> dict[str, str]:
    return {"kind": "ok", "word": "in force"}


@pytest.mark.parametrize("name", ["anna\n", "mse1\n", "anna\x00"])
def test_names_that_only_look_like_others(name: str) -> None:
    """By an end of line that no page shows."""
    with pytest.raises(FormError) as user:
        check_new_user(name, "a quiet winter evening")
    assert set(user.value.fields) == {"name"}
    with pytest.raises(FormError):
        checked_name({"name": name})


@pytest.mark.parametrize("address", ["mse1\n", "a..b", "a." + "b" * 64, "x" * 70, "-a", "a-"])
def test_addresses_that_no_resolver_takes(address: str) -> None:
    """Told beside the field."""
    with pytest.raises(FormError) as error:
        checked_address({"address": address})
    assert set(error.value.fields) == {"address"}


def test_addresses_that_are_some() -> None:
    """As before."""
    for address in ("mse1", "mse-1.example.com", "10.0.0.1", "fd00::1", "xn--bcher-kva.example"):
        assert checked_address({"address": address})[0] == address
