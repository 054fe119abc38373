"""The console's store in SQLite and in a real PostgreSQL: the same promises in both."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from live_pair import until
from sqlalchemy import text
from stage import ConsoleProcess
from store_database import PASSWORD, Database

from openmse.cli.main import root as cli
from openmse.console.backup import restore, save
from openmse.console.errors import Conflict, ConsoleConfigError, ConsoleStoreError, NotFound
from openmse.console.people.roles import Role
from openmse.console.settings import ConsoleSettings, PathsPart, StorePart
from openmse.console.store import past as past_module
from openmse.console.store import schema
from openmse.console.store.audit import Audit, AuditQuery
from openmse.console.store.engines import Engines
from openmse.console.store.past import Action, Event, EventQuery, Past, Step
from openmse.console.store.people import People
from openmse.console.store.store import SETUP_LINK, Store, now, open_store

KINDS = ("sqlite", "postgresql")
LONG = "x" * 500 + "\0"


def settings_of(kind: str, root: Path, request: pytest.FixtureRequest) -> ConsoleSettings:
    """Of a console whose store is empty."""
    if kind == "sqlite":
        return ConsoleSettings(paths=PathsPart(state_dir=str(root / "state")))
    database: Database = request.getfixturevalue("database")
    return database.settings(root)


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ConsoleSettings:
    """Of both kinds."""
    return settings_of(request.param, tmp_path / "one", request)


@pytest.fixture
def store(settings: ConsoleSettings) -> Iterator[Store]:
    """An open store, empty at first."""
    found = open_store(settings)
    yield found
    found.close()


def engine(name: str, **values: object) -> dict[str, object]:
    """The columns of an engine."""
    return {"name": name, "address": "10.0.0.1", "port": 8466, "certificate": b"\0der",
            "fingerprint": "AB", "token": "mse_x", "node": name, "added_by": "anna",
            **values}  # fmt: skip


def event(number: int, engine_id: int = 1, **values: str) -> Event:
    """An entry of an engine's log."""
    at = f"2026-01-31T03:{number // 60:02}:{number % 60:02}.000+00:00"
    made = Event(
        engine_id=engine_id, cursor=f"c{number:06}", at=at, node="mse1", kind="config_chosen",
        severity="info", sentence=f"The {number}th.",
    )  # fmt: skip
    return replace(made, **values)  # type: ignore[arg-type]


def test_people_sessions_and_tokens(store: Store) -> None:
    """Kept, found, ended; the last administrator stays, and a removed user's things go."""
    people = People(store)
    people.add("anna", "hash", Role.ADMINISTRATOR)
    people.add("ben", "hash", Role.VIEWER)
    with pytest.raises(Conflict):
        people.add("ben", "hash", Role.VIEWER)
    for change in ({"role": "viewer"}, {"is_disabled": True}):
        with pytest.raises(Conflict, match="last administrator"):
            people.change("anna", **change)
    ben = people.find("ben")
    assert ben is not None
    people.begin_session(ben, "secret", "csrf", "10.0.0.9")
    people.add_token("msec_x", "graphs", Role.ADMINISTRATOR, ben.id, now(3600))
    principal = people.by_token("msec_x")
    assert principal is not None
    assert principal.role is Role.VIEWER, "never more than its owner"
    people.remove("ben")
    assert people.by_token("msec_x") is None
    assert people.tokens() == []
    assert people.count() == 1


def test_engines_and_their_history(store: Store) -> None:
    """Names are unique; what is longer than its column is cut, in both databases."""
    engines = Engines(store)
    one = engines.add(**engine("mse1", contact=LONG))
    with pytest.raises(Conflict, match="is here already"):
        engines.add(**engine("mse1"))
    two = engines.add(**engine("mse2"))
    with pytest.raises(Conflict, match="has this name"):
        engines.change(two, name="mse1")
    engines.change_all({one: {"version": "2"}, two: {"group_key": LONG}})
    found = engines.all()
    assert [(e.name, e.version, len(e.group_key)) for e in found] == [
        ("mse1", "2", 0),
        ("mse2", "", 256),
    ]
    assert (found[0].contact, found[0].certificate) == ("x" * 128, b"\0der")
    engines.note_sync(one, "facts", "failed", LONG)
    assert [entry.outcome for entry in engines.sync_history(one)] == ["failed"]
    draft = engines.keep_draft(
        engines.draft(engines.new_draft("anna", "add", {"a": 1}), "anna", "add"), b=2
    )
    assert engines.draft(draft.id, "anna", "add").data == {"a": 1, "b": 2}
    engines.remove(one)
    with pytest.raises(NotFound):
        engines.get(one)


def test_events_of_many_engines_are_kept_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one transaction, whatever an engine says; the oldest are forgotten."""
    monkeypatch.setattr(past_module, "EVENTS_MAX", 20)
    past = Past(store)
    past.add_events([event(1, kind=LONG, sentence="a\0b"), event(1, engine_id=2), event(2)])
    past.add_events([event(2), event(3)])
    assert past.last_cursors() == {1: "c000003", 2: "c000001"}
    assert past.last_cursors(2) == {2: "c000001"}
    found = past.events(EventQuery(engine_ids=(1,)))
    assert [e.sentence for e in found] == ["The 3th.", "The 2th.", "ab"]
    assert past.events(EventQuery(engine_ids=(1, 2), text="THE 3TH")) == found[:1]
    assert past.event_kinds((2,)) == ["config_chosen"]
    past.add_events([event(n) for n in range(4, 600)])
    assert len(past.events(EventQuery(engine_ids=(1,), limit=1000))) == 20


def test_actions_are_kept_with_their_steps(store: Store) -> None:
    """And replaced as they go on."""
    past = Past(store)
    action = Action(
        id="20260131T030000-1", kind="switchover", engine_id=1, title=LONG, who="anna",
        state="running", started_at=now(), steps=(Step("mse1", "stop", "done", 3.1),),
    )  # fmt: skip
    past.keep_action(action)
    assert [one.id for one in past.running_actions()] == [action.id]
    past.keep_action(replace(action, state="done", ended_at=now()))
    assert past.running_actions() == []
    assert past.actions((1,))[0].steps == action.steps


def test_the_audit_refuses_change(store: Store) -> None:
    """The database itself does, in both, whichever way it is asked to."""
    audit = Audit(store)
    audit.add(who="anna", action="log in", detail=LONG)
    row = "INTO audit SELECT id, at, 'x', role, address, action, target, outcome, detail FROM audit"
    with store.read() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
    also = [f"REPLACE {row}", f"INSERT OR REPLACE {row}"] if is_sqlite else ["TRUNCATE audit"]
    same = f"INSERT {row} WHERE true ON CONFLICT (id) DO UPDATE SET who = 'x'"
    for statement in ("UPDATE audit SET who = 'x'", "DELETE FROM audit", same, *also):
        with pytest.raises(ConsoleStoreError, match="append-only"), store.write() as connection:
            connection.execute(text(statement))
    assert [(e.who, e.action) for e in audit.find(AuditQuery())] == [("anna", "log in")]


def test_it_is_brought_up_to_date_and_opened_again(settings: ConsoleSettings) -> None:
    """From nothing, from an older schema, and never from a newer one."""
    first = open_store(settings)
    console_id = first.console_id
    first.put("schema_version", "1")
    first.close()
    again = open_store(settings)
    assert again.console_id == console_id
    assert again.get("schema_version") == str(schema.VERSION)
    again.put("schema_version", "99")
    again.close()
    with pytest.raises(ConsoleStoreError, match="schema version 99"):
        open_store(settings)


@pytest.mark.parametrize("target", KINDS)
def test_a_backup_goes_into_either_kind(
    settings: ConsoleSettings, target: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With numbers that go on behind the greatest; never into a store that is in use."""
    store = open_store(settings)
    People(store).add("anna", "hash", Role.ADMINISTRATOR)
    engines = Engines(store)
    engines.remove(engines.add(**engine("gone")))
    kept = engines.add(**engine("mse1", group_key="a@1|b@2"))
    Past(store).add_events([event(1, engine_id=kept)])
    Audit(store).add(who="anna", action="log in")
    file = tmp_path / "backup.jsonl"
    save(settings, file)
    store.close()
    other = settings_of(target, tmp_path / "two", request)
    assert "rows are restored" in restore(other, file, is_replacing=False)
    with pytest.raises(Conflict, match="entries already"):
        restore(other, file, is_replacing=False)
    if target == "postgresql":
        with pytest.raises(Conflict, match="empty database"):
            restore(other, file, is_replacing=True)
    copy = open_store(other)
    assert copy.console_id == store.console_id
    assert [e.id for e in Engines(copy).all()] == [kept]
    assert Engines(copy).add(**engine("mse2")) > kept
    Audit(copy).add(who="anna", action="log in")
    assert [e.action for e in Audit(copy).find(AuditQuery())] == ["log in", "log in"]
    Past(copy).add_events([event(2, engine_id=kept)])
    copy.close()


def _refused(settings: ConsoleSettings) -> str:
    with pytest.raises((ConsoleStoreError, ConsoleConfigError)) as caught:
        open_store(settings)
    told = f"{caught.value.sentence} {caught.value.hint} {caught.value!r}"
    assert PASSWORD not in told
    assert PASSWORD not in repr(caught.value.__cause__)
    return told


def test_who_is_not_let_in_is_told_so_without_the_password(
    database: Database, tmp_path: Path
) -> None:
    """Wrong user, wrong password, wrong database, nobody there, no address at all."""
    good = database.settings(tmp_path)
    name = good.store.url.partition("@/")[2].partition("?")[0]
    assert "password authentication failed" in _refused(
        database.settings_of(tmp_path, name, user="nobody")
    )
    assert "does not exist" in _refused(database.settings_of(tmp_path, "nowhere"))
    (tmp_path / "store-password").write_text("wrong\n")
    assert "password authentication failed" in _refused(good)
    (tmp_path / "store-password").write_text("")
    assert "password file" in _refused(good)
    secret = PASSWORD.replace(" ", "%20")
    for url in (f"//a:{secret}@127.0.0.1:x/y", f"//a:{secret}@127.0.0.1:1/y", "//[a/b"):
        paths = PathsPart(state_dir=str(tmp_path))
        store = StorePart(url=f"postgresql+psycopg:{url}")
        told = _refused(ConsoleSettings(store=store, paths=paths))
        assert secret not in told


@pytest.mark.timeout(120)
def test_a_console_serves_from_postgresql(root: Path, database: Database) -> None:
    """From an empty database; while the server is gone pages say so, then all is well again."""
    made = ConsoleProcess(root / "on-postgresql")
    settings = database.settings(root / "on-postgresql")
    part = settings.store
    store = f'[store]\nurl = "{part.url}"\npassword_file = "{part.password_file}"\n'
    made.config.write_text(made.config.read_text() + store)
    try:
        made.start()
        made.make_administrator()
        with made.logged_in() as client:
            body = {"name": "ben", "password": "a quiet winter morning", "role": "viewer"}
            assert client.post("/api/v1/users", json=body).status_code == 201
            database.stop()
            refused = client.get("/engines")
            assert refused.status_code == 500
            assert "MSE-CON-003" in refused.text
            database.start()
            assert client.get("/engines").status_code == 200
            assert "ben" in client.get("/people").text
        file = root / "from-postgresql.jsonl"
        done = CliRunner().invoke(
            cli, ["console", "backup", "--config", str(made.config), str(file)]
        )
        assert done.exit_code == 0, done.output
        assert b"ben" in file.read_bytes()
        made.stop()
        assert "Traceback" not in made.text()
        (root / "on-postgresql" / "store-password").write_text("a wrong one\n")
        refused_again = CliRunner().invoke(
            cli, ["console", "recover", "--config", str(made.config)]
        )
        assert refused_again.exit_code != 0
        told = f"{refused_again.output} {refused_again.exception!r}"
        assert "password authentication failed" in told
        assert "a wrong one" not in told
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait(10)
        made.socket.close()


def test_after_a_lost_connection_it_works_again(tmp_path: Path, database: Database) -> None:
    """An error in words meanwhile; nothing has to be started anew."""
    store = open_store(database.settings(tmp_path))
    people = People(store)
    people.add("anna", "hash", Role.ADMINISTRATOR)
    database.stop()
    with pytest.raises(ConsoleStoreError, match="cannot be used"):
        people.count()
    database.start()
    assert people.count() == 1
    with database.connect() as other:  # the server lives, but our connections were cut
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'openmse-console'"
        )
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'openmse-console'"
        until(lambda: not other.execute(query.encode()).fetchall(), "they are gone")
    assert people.count() == 1
    store.close()
    with pytest.raises(psycopg.OperationalError):
        database.connect("never made")


def test_two_administrators_cannot_lower_each_other_at_once(
    tmp_path: Path, database: Database
) -> None:
    """The second waits for the first, and is then the last one. (SQLite has one writer.)"""
    store = open_store(database.settings(tmp_path / "one"))
    people, outcomes = People(store), list[str]()
    for name in ("anna", "ben"):
        people.add(name, "hash", Role.ADMINISTRATOR)

    def lower() -> None:
        try:
            people.change("ben", role="viewer")
        except Conflict:
            outcomes.append("refused")
        else:
            outcomes.append("done")

    def is_waiting() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with database.connect() as connection:
            return connection.execute(query.encode()).fetchone() != (0,)

    thread = threading.Thread(target=lower)
    with store.write() as first:  # ben, who has not finished yet
        first.execute(text("UPDATE users SET role = 'viewer' WHERE name = 'anna'"))
        thread.start()
        until(lambda: outcomes or is_waiting(), "the second has to wait, or has been through")
    thread.join(20)
    assert outcomes == ["refused"]
    assert [user.name for user in people.all() if user.role is Role.ADMINISTRATOR] == ["ben"]
    store.close()


def test_a_backup_needs_a_store_and_makes_none(settings: ConsoleSettings, tmp_path: Path) -> None:
    """What is saved of nothing would replace the last good backup."""
    file = tmp_path / "backup.jsonl"
    for _ in range(2):  # the first made nothing that the second could take for a store
        with pytest.raises(ConsoleStoreError, match="There is no store of a console"):
            save(settings, file)
    assert not file.exists()
    open_store(settings).close()
    assert "entries are saved" in save(settings, file)


def test_a_backup_is_secret_and_opens_no_door_again(tmp_path: Path) -> None:
    """Whatever was there under the name it is written by; a set-up link is no part of it, and is
    left out of one that has it."""
    settings = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path / "state")))
    other = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path / "other")))
    store = open_store(settings)
    store.put(SETUP_LINK, "used-meanwhile")
    People(store).add("anna", "hash", Role.ADMINISTRATOR)
    store.close()
    file, part = tmp_path / "backup.jsonl", tmp_path / "backup.jsonl.part"
    part.write_text("")
    part.chmod(0o644)
    save(settings, file)
    assert file.stat().st_mode & 0o777 == 0o600
    saved = file.read_text()
    assert "used-meanwhile" not in saved
    row = f'{{"table": "keep", "row": {{"key": "{SETUP_LINK}", "value": "used-meanwhile"}}}}\n'
    session = '{"table": "sessions", "row": {"hash": "h", "user_id": 1, "csrf": "c", '
    session += '"created_at": "2026", "used_at": "2026", "address": "x"}}\n'
    end = '{"end": true}\n'
    file.write_text(saved.removesuffix(end) + row + session + end)
    assert "end once more what was ended since" in restore(other, file, is_replacing=False)
    found = open_store(other)
    assert found.get(SETUP_LINK) == ""
    with found.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM sessions")) == 0
    assert [user.name for user in People(found).all()] == ["anna"]
    found.close()


@pytest.mark.parametrize("target", KINDS)
def test_a_restore_that_fails_changes_nothing(
    target: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Although it fails at the last row: what was there is there, and a good file can be put back;
    lines that are no rows are found before anything is touched."""
    source = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path / "source")))
    store = open_store(source)
    People(store).add("anna", "hash", Role.ADMINISTRATOR)
    store.close()
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    save(source, good)
    lines = good.read_text().splitlines(keepends=True)
    (anna,) = [line for line in lines if '"anna"' in line]
    other = settings_of(target, tmp_path / "two", request)
    is_replacing = target == "sqlite"
    if is_replacing:
        there = open_store(other)
        People(there).add("ben", "hash", Role.VIEWER)
        there.close()
    wrong_ones = (
        anna,
        anna.replace('"name"', '"nickname"'),
        '{"table": "users"}\n',
        "[]\n",
        '{"file": "tls.key", "data": 1}\n',
        '{"file": "../x", "data": ""}\n',
    )
    for wrong in wrong_ones:
        bad.write_text("".join([*lines[:-1], wrong, lines[-1]]))
        with pytest.raises(ConsoleStoreError, match=r"[Nn]othing was changed"):
            restore(other, bad, is_replacing=is_replacing)
    files = {path.name for path in other.state_dir.iterdir()}
    found = open_store(other)
    assert [user.name for user in People(found).all()] == (["ben"] if is_replacing else [])
    found.close()
    assert files == ({"lock", "console.db"} if is_replacing else {"lock"})
    said = restore(other, good, is_replacing=is_replacing)
    found = open_store(other)
    assert [user.name for user in People(found).all()] == ["anna"]
    found.close()
    if is_replacing:
        aside = ConsoleSettings(store=StorePart(url=f"sqlite:///{said.split()[-1].rstrip('.')}"))
        found = open_store(aside)
        assert [user.name for user in People(found).all()] == ["ben"]
        found.close()


def test_what_is_kept_for_ever_is_not_of_any_length(store: Store) -> None:
    """Whoever said it."""
    Audit(store).add(who=LONG, action="x", detail=LONG * 1000)
    (entry,) = Audit(store).find(AuditQuery())
    assert (len(entry.who), len(entry.detail) <= 4000) == (80, True)
    Engines(store).note_sync(1, "facts", "failed", LONG * 1000)
    (line,) = Engines(store).sync_history(1)
    assert len(line.sentence) <= 4000
