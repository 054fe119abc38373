"""What a console does when it is killed, when its disk is full or its store broken, when an engine
is another one, and when programs send nonsense: a clear error, and nothing has changed."""

import contextlib
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_pair import Site, until
from pair_at_rest import config_at_rest
from stage import ConsoleProcess

from openmse.console.backup import restore, save
from openmse.console.errors import ConsoleStoreError
from openmse.console.serve import serve
from openmse.console.settings import load
from openmse.console.store.past import Action, Past, Step, new_action_id
from openmse.console.store.store import now, open_store
from openmse.errors import NetworkError

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", autouse=True)
def _engine(site: Site, console: ConsoleProcess) -> None:
    console.add(site, "mse1")


def _epoch(site: Site) -> int:
    """Once nothing moves any more."""
    return config_at_rest(site).epoch


def _ended(client: Any, action_id: str) -> dict[str, Any]:
    path = f"/api/v1/actions/{action_id}"
    until(lambda: client.get(path).json().get("state") != "running", "it has ended", 40)
    found: dict[str, Any] = client.get(path).json()
    return found


# ------------------------------------------------------------------ killed


def test_killed_meanwhile_it_tells_after_its_restart_what_came_of_it(
    console: ConsoleProcess, site: Site
) -> None:
    """The engine goes on; the same link shows its steps and its end, and the audit has it."""
    with console.logged_in() as client:
        until(
            lambda: client.get("/api/v1/pairs/1").json().get("why_not_switchover") == "", "it may"
        )
        owner = client.get("/api/v1/pairs/1").json()["owner"]
        begun = client.post("/api/v1/pairs/1/do/switchover", json={})
        assert begun.status_code == 202, begun.text
    console.kill()
    assert begun.json()["state"] == "running"
    console.start()
    with console.logged_in() as client:
        ended = _ended(client, begun.json()["id"])
        assert (ended["state"], ended["ended_at"] != "") == ("done", True), ended
        assert {"checkpoint", "stop"} <= {step["name"] for step in ended["steps"]}
        until(lambda: client.get("/api/v1/pairs/1").json()["owner"] not in ("", owner), "it moved")
        entries = client.get("/api/v1/audit").json()["entries"]
    told = [e["outcome"] for e in entries if e["action"] == "switchover"]
    assert told == ["done", "begun"]


def test_killed_before_it_asked_it_says_that_nothing_was_changed(
    console: ConsoleProcess, site: Site
) -> None:
    """And of a pairing, whose parts it alone could carry on, that its outcome is not known."""
    before = _epoch(site)
    console.stop()
    store = open_store(load(console.config))
    ids = {}
    for kind in ("maintenance", "pair"):
        action = Action(
            id=new_action_id(),
            kind=kind,
            engine_id=1,
            title="mse1 + mse2",
            who="anna",
            state="running",
            started_at=now(),
            steps=(Step("mse2", "pairing password", "running", 12.0),) if kind == "pair" else (),
        )
        Past(store).keep_action(action)
        ids[kind] = action.id
    store.close()
    console.start()
    with console.logged_in() as client:
        never, lost = _ended(client, ids["maintenance"]), _ended(client, ids["pair"])
    assert never["state"] == "refused"
    assert "before the engine was asked; nothing was changed" in never["sentence"]
    assert lost["state"] == "lost"
    assert "was restarted while this was under way" in lost["sentence"]
    assert [step["name"] for step in lost["steps"]] == ["pairing password"]
    assert _epoch(site) == before


# ------------------------------------------------------------------ store


@contextlib.contextmanager
def _no_room(console: ConsoleProcess) -> Iterator[None]:
    """No file of the process can grow, as on a full disk."""
    assert console.process is not None
    pid = console.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_with_a_full_disk_one_can_look_and_nothing_is_changed(
    console: ConsoleProcess, site: Site
) -> None:
    """What cannot be written down is not asked of an engine; afterwards all is as before."""
    with console.logged_in() as client:
        before = _epoch(site)
        until(lambda: client.get("/api/v1/pairs/1").json().get("owner"), "the pair is seen")
        with _no_room(console):
            assert client.get("/engines").status_code == 200
            assert client.get("/api/v1/pairs/1").json()["owner"]
            refused = client.post("/api/v1/pairs/1/maintenance", json={"is_on": True})
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (500, "MSE-CON-003"), error
            assert "Nothing was asked of the engine" in error["sentence"]
            assert "'mse' on the engine" in error["hint"]
            page = client.post("/pairs/1/maintenance/on")
            assert page.status_code == 500
            assert "Nothing was asked of the engine" in page.text
        assert _epoch(site) == before
        done = client.post("/api/v1/pairs/1/maintenance", json={"is_on": True})
        assert _ended(client, done.json()["id"])["state"] == "done"
        done = client.post("/api/v1/pairs/1/maintenance", json={"is_on": False})
        assert _ended(client, done.json()["id"])["state"] == "done"
    assert "Traceback" not in console.text()


def _copy(console: ConsoleProcess, root: Path, port: int) -> tuple[Path, Path]:
    """The settings of a console of its own, with the first one's store as it is now."""
    root.mkdir()
    file = root / "backup.jsonl"
    save(load(console.config), file)
    config = root / "console.toml"
    config.write_text(
        f'[console]\naddress = "127.0.0.1"\nport = {port}\n[paths]\nstate_dir = "{root}/state"\n'
    )
    restore(load(config), file, is_replacing=False)
    return config, root / "state" / "console.db"


def test_a_broken_store_is_told_and_left_alone(console: ConsoleProcess, root: Path) -> None:
    """Gibberish, a torn file, another program's database: not a byte is changed."""
    config, store = _copy(console, root / "broken", 0)
    whole = store.read_bytes()
    for broken in (b"this is no database\n" * 500, whole[: len(whole) // 2], whole[:100]):
        store.write_bytes(broken)
        with pytest.raises(ConsoleStoreError, match="store cannot be used"):
            serve(load(config))
        assert store.read_bytes() == broken
    store.unlink()
    with contextlib.closing(sqlite3.connect(store)) as other:
        other.execute("create table engines (something text)")
    command = [sys.executable, "-m", "openmse.console", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "MSE-CON-003" in done.stderr


def test_a_port_in_use_is_told(console: ConsoleProcess, root: Path) -> None:
    """With the port; the console that serves there goes on."""
    config, _ = _copy(console, root / "same-port", console.port)
    with pytest.raises(NetworkError, match=str(console.port)):
        serve(load(config))
    with console.logged_in() as client:
        assert client.get("/engines").status_code == 200


def test_a_state_directory_that_cannot_be_made(root: Path) -> None:
    """A file is where the directory should be."""
    (root / "file").write_text("")
    config = root / "nowhere.toml"
    config.write_text(
        f'[console]\naddress = "127.0.0.1"\nport = 0\n[paths]\nstate_dir = "{root}/file/state"\n'
    )
    with pytest.raises(ConsoleStoreError, match="file/state cannot be used"):
        serve(load(config))


# ------------------------------------------------------------------ engines


def test_a_backup_from_before_an_engine_was_added(console: ConsoleProcess, site: Site) -> None:
    """It does not know the engine, adds it again without force, and the pair noticed nothing."""
    file = console.root / "early.jsonl"
    save(load(console.config), file)
    console.add(site, "mse2")
    before = _epoch(site)
    console.stop()
    restore(load(console.config), file, is_replacing=True)
    console.start()
    with console.logged_in() as client:
        names = [e["name"] for e in client.get("/api/v1/engines").json()["engines"]]
        assert names == ["mse1"]
    console.add(site, "mse2")
    with console.logged_in() as client:
        until(
            lambda: (
                {e["reachability"] for e in client.get("/api/v1/engines").json()["engines"]}
                == {"ok"}
            ),
            "both are heard",
        )
    assert _epoch(site) == before


def test_an_engine_with_another_certificate_is_asked_nothing(
    console: ConsoleProcess, site: Site
) -> None:
    """Told as such; it comes back once somebody has compared the new fingerprint."""
    node = site.nodes["mse1"]
    kept = node.root / "management-kept"
    shutil.copytree(node.places.directory, kept)
    node.stop()
    for path in (node.places.certificate, node.places.key):
        path.unlink()
    node.start(site)
    try:
        with console.logged_in() as client:
            body = {"address": "127.0.0.1", "port": str(node.port), "name": "mse1", "contact": ""}
            until(lambda: "Other certificate" in client.get("/engines/1").text, "it is seen", 30)
            page = client.post("/engines/1/synchronize").text
            assert re.search(r'mark-bad">.{0,99}failed</span></td><td[^>]*>[^<]+\.', page), page
            refused = client.post("/api/v1/engines/1/stop", json={"confirm": "mse1"})
            assert refused.json()["error"]["code"] == "MSE-CON-031", refused.text
            unseen = client.post("/engines/1/edit", data={**body, "repin": "1"})
            assert f'value="{node.serve_fingerprint()}"' in unseen.text
            assert "Other certificate" in client.get("/engines/1").text
            seen = {**body, "repin": "1", "confirmed": node.serve_fingerprint()}
            assert client.post("/engines/1/edit", data=seen).status_code == 200
            until(lambda: client.get("/api/v1/engines/1").json()["reachability"] == "ok", "again")
    finally:
        shutil.rmtree(kept)


# ------------------------------------------------------------------ nonsense

HUGE = "9" * 40
BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b'{"unknown": 1}',
    b"\xff\xfe\x00",
    b'{"name": "' + b"x" * 70_000 + b'"}',
    b'{"confirm": {"a": []}, "is_on": "maybe", "text": 5, "port": -1, "password": null}',
    b"[" * 5000,
    b'{"limit": 1e999}',
)


def test_nonsense_is_refused_everywhere_and_changes_nothing(
    console: ConsoleProcess, site: Site
) -> None:
    """Every path of the API, with wrong bodies, ids and queries: one shape of error, below 500."""
    before = _epoch(site)
    with console.logged_in() as client:
        users, described = client.get("/api/v1/users").json(), client.get("/api/v1/openapi.json")
        faults = []
        for path, method in _routes(described.json()):
            for url in _urls(path):
                for body in BODIES if method != "GET" else BODIES[:1]:
                    headers = {"Content-Type": "application/json"}
                    try:
                        answer = client.request(method, url, content=body, headers=headers)
                    except httpx.RemoteProtocolError as error:
                        faults.append(f"{method} {url[:80]} {body[:40]!r}: {error}")
                        continue
                    if answer.status_code >= 500:
                        faults.append(f"{method} {url[:80]} {body[:40]!r}: {answer.text[:200]}")
                    elif answer.status_code >= 400:
                        assert set(answer.json()["error"]) >= {"code", "sentence", "hint"}
        assert not faults, "\n".join(faults)
        assert client.get("/api/v1/users").json() == users
        assert client.get("/api/v1/engines/1").json()["name"] == "mse1"
    assert _epoch(site) == before
    assert "Traceback" not in console.text()


def _routes(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in described["paths"].items():
        if path.startswith("/api/v1"):
            yield from ((path, method.upper()) for method in item)


QUERY = (
    f"?page={HUGE}&limit={HUGE}&before={HUGE}&text=%00%FF%27&show=%3Cb%3E&sort=__class__"
    "&severity=x&since=yesterday"
)


def _urls(path: str) -> list[str]:
    """With ids that are none."""
    found = []
    for value in ("-1", "0", HUGE, "..%2f..", "%00", "x" * 300):
        url = path
        for name in ("engine_id", "action_id", "licence_id", "token_id", "kind", "name"):
            url = url.replace(f"{{{name}}}", value)
        found.append(url + QUERY)
    return found if "{" in path else [path + QUERY, path + "?limit=-5&page=-1&before=-1"]
