"""Wrong guesses at the log-in, with a real store: nobody gets in by them, and nobody is kept out by
those of others; open streams end with what let them in."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update
from starlette.requests import Request

from openmse.console.app import make_console
from openmse.console.context import Console
from openmse.console.errors import LockedOut, LoginRefused
from openmse.console.live import hub
from openmse.console.pages import live
from openmse.console.people import secrets
from openmse.console.people.lockout import Lockout, name_key, place_key
from openmse.console.people.login import log_in, new_setup_link, use_setup_link
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import digest, hash_password
from openmse.console.people.users import change_user
from openmse.console.settings import ConsoleSettings, PathsPart
from openmse.console.store.audit import AuditQuery
from openmse.console.store.schema import sessions
from openmse.console.store.store import now, open_store

SECRET = "a quiet winter evening"
DESK, ELSEWHERE, FAR = "10.0.0.7", "10.9.9.8", "10.9.9.9"


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """With anna, an administrator, and ben, who looks; nothing runs. Hashes are quick ones."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(secrets, "_hasher", quick)
    monkeypatch.setattr(secrets, "_NOBODY", quick.hash("nobody"))
    settings = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path)))
    made = make_console(settings, open_store(settings))
    hashed = hash_password(SECRET)
    made.people.add("anna", hashed, Role.ADMINISTRATOR)
    made.people.add("ben", hashed, Role.VIEWER)
    yield made
    made.store.close()


def _guess(console: Console, name: str, address: str, times: int = 5) -> None:
    for _ in range(times):
        with pytest.raises(LoginRefused):
            log_in(console, name, "wrong", address)


def test_a_stranger_keeps_nobody_out(console: Console) -> None:
    """A name that others guess at waits, but not where its owner was let in before."""
    log_in(console, "anna", SECRET, DESK)
    _guess(console, "anna", FAR)
    with pytest.raises(LockedOut):
        log_in(console, "anna", SECRET, ELSEWHERE)
    assert log_in(console, "anna", SECRET, DESK)
    with pytest.raises(LockedOut):
        log_in(console, "anna", SECRET, ELSEWHERE)


def test_a_colleague_at_the_same_place_gains_no_guesses(console: Console) -> None:
    """Whoever shares the address logs in between: the guesses at the other name go on counting."""
    log_in(console, "anna", SECRET, DESK)
    for _ in range(2):
        _guess(console, "anna", DESK, 2)
        log_in(console, "ben", SECRET, DESK)
    _guess(console, "anna", DESK, 1)
    with pytest.raises(LockedOut):
        log_in(console, "anna", SECRET, DESK)


def test_a_set_up_link_ends_the_wait(console: Console) -> None:
    """The way back in is one: also from the address that has to wait."""
    _guess(console, "anna", DESK)
    secret = new_setup_link(console).rpartition("/")[2]
    form = {"name": "anna", "password": SECRET, "password_again": SECRET}
    use_setup_link(console, secret, form, DESK)
    assert log_in(console, "anna", SECRET, DESK)


async def test_a_new_password_of_an_administrator_ends_the_wait(console: Console) -> None:
    """As whoever waits is told: also at the place where it was mistyped; others wait on."""
    _guess(console, "ben", DESK)
    _guess(console, "anna", ELSEWHERE)
    with pytest.raises(LockedOut, match=r"try again in 15 min") as told:
        log_in(console, "ben", SECRET, DESK)
    assert "set a new password" in told.value.hint
    ben = console.people.find("ben")
    assert ben is not None
    who = Principal(user_id=ben.id, name="anna", role=Role.ADMINISTRATOR, kind="user")
    request = Request({"type": "http", "headers": [], "client": (FAR, 1)})
    new = "a loud summer morning"
    await change_user(console, request, who, "ben", {"password": new})
    assert log_in(console, "ben", new, DESK)
    with pytest.raises(LockedOut):
        log_in(console, "ben", new, ELSEWHERE)


def test_sessions_that_have_ended_are_forgotten(console: Console) -> None:
    """They come back neither with a longer timeout nor ever, and do not pile up."""
    log_in(console, "ben", SECRET, DESK)
    with console.store.write() as connection:
        connection.execute(update(sessions).values(used_at=now(-3600)))
    log_in(console, "anna", SECRET, DESK)
    with console.store.read() as connection:
        assert len(connection.execute(select(sessions)).all()) == 1


def test_all_addresses_of_a_machine_are_one_place(console: Console) -> None:
    """A /64 is what a single machine has."""
    for number in range(5):
        _guess(console, f"name{number}", f"2001:db8:1:2::{number:x}", 1)
    with pytest.raises(LockedOut):
        log_in(console, "anna", SECRET, "2001:db8:1:2:ffff::1")
    assert log_in(console, "anna", SECRET, "2001:db8:1:3::1")
    assert place_key("::ffff:10.0.0.7") == place_key("10.0.0.7") == "from:10.0.0.7"
    assert place_key("fe80::1%eth0") == "from:fe80::/64"


def test_who_has_to_wait_cannot_fill_the_audit(console: Console) -> None:
    """It keeps everything for ever: a wait is noted once, however often it is tried against."""
    _guess(console, "nobody", FAR)
    for number in range(20):
        with pytest.raises(LockedOut):
            log_in(console, f"name{number}", "wrong", FAR)
    noted = console.audit.find(AuditQuery(action="log in", limit=1000))
    assert [entry.detail for entry in noted].count("locked out") == 1
    assert len(noted) == 6


def test_nothing_long_is_remembered() -> None:
    """Of a name as long as a request may be."""
    assert len(name_key("x" * 1_000_000)) < 100
    assert len(place_key("x" * 1_000_000)) < 100
    lockout = Lockout(1, 60.0)
    lockout.wrong("user:anna", 10.0)
    assert [lockout.is_news("user:anna") for _ in range(3)] == [True, False, False]
    lockout.wrong("user:anna", 100.0)
    assert lockout.is_news("user:anna"), "another wait"


@pytest.mark.parametrize("end", ["token", "owner", "log out"])
async def test_an_open_stream_ends_with_what_let_it_in(
    console: Console, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A token that was ended, one whose owner was shut out, a session that was ended."""
    monkeypatch.setattr(live, "CREDENTIALS_CHECK_S", 0.0)
    monkeypatch.setattr(hub, "TICK_S", 0.05)
    monkeypatch.setattr(hub, "SPACING_S", 0.01)
    ben = console.people.find("ben")
    assert ben is not None
    secret = "msec_of-ben"
    token_id = console.people.add_token(secret, "graphs", Role.VIEWER, ben.id, now(3600))
    header = (b"authorization", f"Bearer {secret}".encode())
    if end == "log out":
        secret = log_in(console, "ben", SECRET, DESK)
        header = (b"cookie", f"__Host-mse-session={secret}".encode())
    request = Request({"type": "http", "headers": [header]})
    ticking = asyncio.create_task(console.hub.run())
    stream = live.while_let_in(console, request, console.hub.stream((), "en", "1"))
    try:
        async with asyncio.timeout(20):
            assert await anext(stream)
            assert await anext(stream), "it lasts as long as they do"
            if end == "token":
                console.people.remove_token(token_id)
            elif end == "owner":
                console.people.change("ben", is_disabled=True)
            else:
                console.people.end_session(digest(secret))
            async for _ in stream:
                pass
            while console.hub.streams:
                await asyncio.sleep(0.01)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
