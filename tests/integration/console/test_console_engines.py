"""Engines behind the console: claims, the second console, backup, the fleet's figures."""

import contextlib
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from live_pair import PASSWORD, Site, until
from stage import ConsoleProcess, console_process

from openmse.console.backup import restore, save
from openmse.console.errors import Conflict, ConsoleStoreError
from openmse.console.serve import listening_socket
from openmse.console.settings import ConsolePart, ConsoleSettings, load


@pytest.fixture(scope="module", autouse=True)
def _engines(site: Site, console: ConsoleProcess) -> None:
    console.add(site, "mse1", "mse2")


def _pair(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/pairs/1").json()
    return found


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_the_living_picture_follows_the_pair(console: ConsoleProcess, site: Site) -> None:
    """Added, seen as one pair, moved with steps, and its events kept with the console."""
    with console.logged_in() as client:
        until(lambda: _pair(client).get("data_replication") == "Up", "in step", 40)
        before = _pair(client)
        assert before["why_not_switchover"] == ""
        assert before["round_trip_ms"] > 0
        begun = client.post("/api/v1/pairs/1/do/switchover", json={})
        assert begun.status_code == 202, begun.text
        action = f"/api/v1/actions/{begun.json()['id']}"
        until(lambda: client.get(action).json()["state"] != "running", "it has ended", 30)
        ended = client.get(action).json()
        assert ended["state"] == "done", ended
        assert {"checkpoint", "stop"} <= {step["name"] for step in ended["steps"]}
        old, new = before["owner"], ({"mse1", "mse2"} - {before["owner"]}).pop()
        until(
            lambda: (
                {
                    (old, "clients", "kept out"),
                    (old, "database", "standby"),
                    (new, "database", "primary"),
                    (new, "address", "held"),
                    (new, "clients", "admitted"),
                }
                <= {
                    (step["machine"], step["name"], step["sentence"])
                    for step in client.get(action).json()["steps"]
                    if step["state"] == "seen" and step["ms"] >= 0
                }
            ),
            "both machines were looked at",
            30,
        )
        page = client.get(f"/actions/{begun.json()['id']}").text
        assert page.count("<h3>mse1</h3>") == page.count("<h3>mse2</h3>") == 1
        until(lambda: _pair(client)["owner"] != before["owner"], "the owner is another", 10)
        until(
            lambda: (
                "switchover_started"
                in {e["kind"] for e in client.get("/api/v1/pairs/1/events").json()["events"]}
            ),
            "the events are kept here",
        )
        text = client.get("/metrics").text
        assert 'openmse_console_engine_up{engine="mse1"} 1.0' in text
        csv = client.get("/pairs/1/events.csv?severity=error")
        assert csv.text.startswith("at,node,severity,kind,sentence,term,epoch")


def test_what_an_engine_refuses_is_told_in_its_words(console: ConsoleProcess) -> None:
    """With the wrong name typed, or a value that cannot be."""
    with console.logged_in() as client:
        mse1 = "/api/v1/engines/1"
        until(lambda: client.get(mse1).json()["reachability"] == "ok", "it is heard")
        wrong = client.post("/api/v1/pairs/1/do/unpair", json={"confirm": "mse9"})
        assert wrong.status_code == 422
        assert "nothing was changed" in wrong.json()["error"]["sentence"]
        slow = client.patch("/api/v1/pairs/1/settings", json={"failover_wait_s": 0.1})
        assert slow.status_code == 409
        assert slow.json()["error"]["sentence"]


def test_a_wrong_fingerprint_stops_before_the_password(console: ConsoleProcess) -> None:
    """Nothing secret goes to somebody else."""
    body = {
        "name": "other",
        "address": "127.0.0.1",
        "port": console.port,
        "fingerprint": "AB:CD",
        "user": "admin",
        "password": PASSWORD,
    }
    with console.logged_in() as client:
        answer = client.post("/api/v1/engines", json=body)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "MSE-CON-031"


@pytest.mark.timeout(120)
def test_the_second_console_is_told(root: Path, console: ConsoleProcess, site: Site) -> None:
    """It cannot claim what another one manages; by force it can, and the first one is told."""
    with console_process(root / "second") as second:
        with second.logged_in() as client:
            body = {
                "name": "mse2",
                "address": "127.0.0.1",
                "port": site.nodes["mse2"].port,
                "fingerprint": site.nodes["mse2"].serve_fingerprint(),
                "user": "admin",
                "password": PASSWORD,
            }
            refused = client.post("/api/v1/engines", json=body)
            assert refused.json()["error"]["code"] == "MSE-API-020"
            assert "console" in refused.json()["error"]["sentence"]
            forced = {**body, "confirm": "mse2"}
            with ThreadPoolExecutor(2) as pool:  # a double click: one of them counts
                asked = [pool.submit(client.post, "/api/v1/engines", json=forced) for _ in "12"]
            assert sorted(one.result().status_code for one in asked) == [201, 422]
            until(
                lambda: client.get("/api/v1/engines/1").json()["reachability"] == "ok",
                "the token that is kept is the one that the engine granted last",
            )
        with console.logged_in() as client:
            until(
                lambda: "Not managed here" in client.get("/engines/2").text,
                "the first console says that it has lost the engine",
                20,
            )


@pytest.mark.timeout(120)
def test_a_backup_makes_the_same_console_elsewhere(root: Path, console: ConsoleProcess) -> None:
    """Users, engines and their tokens; a broken file, or a store in use, changes nothing."""
    file = root / "backup.jsonl"
    said = save(load(console.config), file)
    assert "secrets" in said
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="runs"):
        restore(load(console.config), file, is_replacing=True)
    broken = root / "broken.jsonl"
    broken.write_bytes(file.read_bytes()[:-20])
    other = ConsoleProcess(root / "third")
    with pytest.raises(ConsoleStoreError):
        restore(load(other.config), broken, is_replacing=False)
    restore(load(other.config), file, is_replacing=False)
    with pytest.raises(Conflict, match="already"):
        restore(load(other.config), file, is_replacing=False)
    try:
        other.start()
        assert "first administrator" not in other.text()
        with other.logged_in() as client:
            found = client.get("/api/v1/engines").json()["engines"]
            assert [engine["name"] for engine in found] == ["mse1", "mse2"] or len(found) == 2
            until(
                lambda: client.get("/api/v1/engines/1").json()["reachability"] == "ok",
                "the engine answers with the token of the backup",
            )
        other.stop()
    finally:
        other.socket.close()


@pytest.mark.parametrize("is_given", [True, False])
def test_accepted_connections_answer_at_once(is_given: bool) -> None:
    """Without TCP_NODELAY each answer on a kept connection waits 40 ms for an acknowledgement."""
    with contextlib.ExitStack() as stack:
        descriptor = -1
        if is_given:
            opened = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            descriptor = opened.detach()
        part = ConsolePart(address="127.0.0.1", port=0)
        listening = stack.enter_context(listening_socket(ConsoleSettings(console=part), descriptor))
        stack.enter_context(socket.create_connection(listening.getsockname()))
        accepted = stack.enter_context(listening.accept()[0])
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.parametrize("kind", ["file", "deaf"])
def test_a_descriptor_must_listen(root: Path, console: ConsoleProcess, kind: str) -> None:
    """Told in a sentence, exit 2."""
    with socket.socket() as sock, (root / "x").open("w") as file:
        sock.bind(("127.0.0.1", 0))
        fd = file.fileno() if kind == "file" else sock.fileno()
        command = [sys.executable, "-m", "openmse.console", "--fd", str(fd)]
        done = subprocess.run(
            [*command, "--config", str(console.config)],
            pass_fds=[fd],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "MSE-CON-002" in done.stderr
