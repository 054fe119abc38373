"""The management API of both nodes of a pair, asked over the network from the third machine."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from operating import NODES, OnePair, Site

from openmse import ports
from openmse.lab.programs import PYTHON, WITNESS_CONFIG_PATH

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

PASSWORD = "correct horse battery"
HOSTS = {"mse1": "10.10.10.11", "mse2": "10.10.10.12"}
FROM = "witness"
ASK = """
import json, ssl, sys, httpx
todo = json.loads(sys.stdin.readline())
tls = ssl.create_default_context(cadata=todo["certificate"])
who = ("admin", todo["password"])
with httpx.Client(base_url=todo["url"], verify=tls, auth=who, timeout=90) as client:
    found = client.request(todo["method"], todo["path"], json=todo["body"])
    body = found.json() if found.content else None
    print(json.dumps({"status": found.status_code, "body": body}))
"""
LISTEN = """
import json, ssl, sys, httpx
todo = json.loads(sys.stdin.readline())
tls = ssl.create_default_context(cadata=todo["certificate"])
who = ("admin", todo["password"])
with httpx.Client(base_url=todo["url"], verify=tls, auth=who, timeout=30) as client:
    with client.stream("GET", "/v1/stream?view=summary") as stream:
        event = ""
        for line in stream.iter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                event = value
            elif key == "data":
                print(json.dumps({"event": event, "data": json.loads(value)}), flush=True)
"""


class Console:
    """A console as the nodes see it: a program on the third machine."""

    at: Site

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[Any]] = {}

    def start(self, node: str) -> None:
        """Start the admin process of a node, and wait until it answers."""
        listens = f"bash -c '</dev/tcp/{HOSTS[node]}/{ports.MANAGEMENT}'"

        def is_open() -> bool:
            return self.at.run(FROM, "sh", "-c", listens).returncode == 0

        # What a test has killed stands for the process in the machine, which dies a moment later.
        self.at.until(lambda: not is_open(), f"nothing listens on {node} any more")
        log = self.at.lab.path_in(node, "/var/log/console/admin.log").open("ab")
        with log:
            self.processes[node] = self.at.lab.popen(
                node, ["mse", "admin", "run"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.at.until(is_open, f"{node} listens")
        self.at.until(
            lambda: self.ok(node, "GET", "/v1/summary")["is_monitor_up"],
            f"the API of {node} has a picture of its health monitor",
        )

    def stop(self, node: str) -> int:
        """End it; its exit status."""
        process = self.processes.pop(node)
        process.terminate()
        return process.wait(20)

    def todo(self, node: str) -> dict[str, Any]:
        """What a program needs to reach a node: the certificate is pinned."""
        pem = self.at.lab.path_in(node, "/var/lib/openmse/management/tls.crt").read_text()
        url = f"https://{HOSTS[node]}:{ports.MANAGEMENT}"
        return {"url": url, "certificate": pem, "password": PASSWORD}

    def ask(self, node: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request over the network: the status and the body."""
        todo = {**self.todo(node), "method": method, "path": path, "body": body}
        done = self.at.run(FROM, PYTHON, "-c", ASK, typed=json.dumps(todo), timeout_s=100)
        assert done.returncode == 0, done.stderr + self.at.story()
        told = json.loads(done.stdout)
        return told["status"], told["body"]

    def ok(self, node: str, method: str, path: str, body: Any = None) -> Any:
        """One that has to succeed."""
        status, told = self.ask(node, method, path, body)
        assert status == 200, f"{path}: {status} {told}\n{self.at.story()}"
        return told

    @contextmanager
    def stream(self, node: str) -> Iterator[list[dict[str, Any]]]:
        """What the stream of a node told, complete once the context has ended."""
        told: list[dict[str, Any]] = []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = self.at.lab.popen(FROM, [PYTHON, "-c", LISTEN], **pipes)
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            process.stdin.write(json.dumps(self.todo(node)) + "\n")
            process.stdin.flush()
            told.append(json.loads(process.stdout.readline()))
            try:
                yield told
            finally:
                process.terminate()
                told += [json.loads(line) for line in process.stdout if line.endswith("}\n")]


@pytest.fixture(scope="module")
def shared() -> Iterator[Console]:
    """What this file's tests leave running."""
    console = Console()
    yield console
    for node in tuple(console.processes):
        assert console.stop(node) == 0, "it ends calmly"


@pytest.fixture
def console(one_pair: OnePair, shared: Console) -> Console:
    """The shared pair, in SYNC and owned by mse1, with the admin process on both nodes."""
    shared.at = one_pair.mended("mse1")
    if one_pair.is_first("with users"):
        for node in NODES:
            words = ("admin", "password", "--password-file", "-")
            shared.at.ok(node, *words, typed=f"{PASSWORD}\n")
    for node in NODES:
        process = shared.processes.get(node)
        if process is None or process.poll() is not None:
            shared.start(node)
    return shared


def test_switchover_and_failback_over_the_network(console: Console) -> None:
    at = console.at
    assert console.ok("mse1", "GET", "/v1/info")["role"] == "primary"
    with at.load(), console.stream("mse2") as told:
        done = console.ok("mse1", "POST", "/v1/ha/switchover?wait_s=60", {"to": "mse2"})
        assert (done["state"], done["by"]) == ("done", "user admin")
        assert done["from_address"] == "10.10.10.13"
        assert done["steps"], "what the machine did, step by step"
        at.until_owner("mse2")
        at.until_sync()
        back = console.ok("mse2", "POST", "/v1/ha/failback?wait_s=60", {})
        assert back["state"] == "done"
        at.until_owner("mse1")
        at.until_sync()
    states = [one["data"]["state"] for one in told if one["event"] == "summary"]
    assert states[0] == "SECONDARY_ACTIVE"
    assert "FAILOVER_ACTIVE" in states
    owners = [one["data"]["owner"] for one in told if one["event"] == "summary"]
    assert ("mse2" in owners, owners[-1]) == (True, "mse1")
    assert [o["data"]["kind"] for o in told if o["event"] == "operation"][:1] == ["failback"]
    assert {one["event"] for one in told} >= {"monitor", "summary", "event", "operation"}
    kept = console.ok("mse1", "GET", f"/v1/operations/{done['id']}")
    assert kept == done


def test_a_machine_without_power_is_told_by_the_other(console: Console) -> None:
    at = console.at
    at.lab.power_off("mse1")
    at.until_owner("mse2")

    def is_told() -> bool:
        told = console.ok("mse2", "GET", "/v1/summary")
        return (told["owner"], told["is_peer_heard"]) == ("mse2", False)

    at.until(is_told, "the API of mse2 says that it owns and hears nobody")
    preview = console.ok("mse2", "GET", "/v1/ha/takeover")
    assert preview["is_owner"]
    status, refused = console.ask("mse2", "POST", "/v1/ha/switchover", {})
    assert (status, refused["error"]["code"]) == (409, "MSE-CMD-001")
    console.processes.pop("mse1").wait(20)
    at.lab.power_on("mse1")
    at.until_sync(60)
    console.start("mse1")
    assert console.ok("mse1", "GET", "/v1/status")["node"] == "mse1"


def test_a_planned_stop_through_the_api(console: Console) -> None:
    at = console.at
    body = {"handover": True, "confirm": "mse1"}
    done = console.ok("mse1", "POST", "/v1/node/stop?wait_s=60", body)
    assert done["state"] == "done", done
    at.until_owner("mse2")

    def is_down() -> bool:
        return console.ok("mse1", "GET", "/v1/summary")["is_monitor_up"] is False

    at.until(is_down, "the API of mse1 says that its health monitor is down")
    status, told = console.ask("mse1", "GET", "/v1/status")
    assert (status, told["error"]["code"]) == (503, "MSE-CTL-002")
    at.until_ended("mse1")  # or there is nothing yet that could be started again
    at.start("mse1")
    at.until_sync(60)


def test_the_pair_does_not_notice_the_api(console: Console) -> None:
    at = console.at
    before = at.register()
    for node in NODES:
        process = console.processes.pop(node)
        process.kill()
        process.wait(20)
    for node in NODES:
        console.start(node)
    assert at.register() == before
    assert console.ok("mse2", "GET", "/v1/summary")["state"] == "SECONDARY_ACTIVE"


def test_pairing_and_the_witness_through_the_api(console: Console) -> None:
    """What a console does when it makes a pair: nobody logs in to either machine."""
    at = console.at
    console.ok("mse1", "POST", "/v1/ha/unpair?wait_s=60", {"confirm": "mse1"})
    at.until(lambda: at.has_left("mse2"), "mse2 has left")
    secret = "made by the console"
    status, _ = console.ask("mse2", "PUT", "/v1/node/pairing-password", {"password": secret})
    assert status == 204
    at.until(lambda: at.told("mse2").get("is_pairing_open"), "mse2 waits for a pairing")
    wrong = {"peer": HOSTS["mse2"], "password": "not the password"}
    status, told = console.ask("mse1", "POST", "/v1/ha/pair?wait_s=60", wrong)
    assert (status, told["error"]["code"][:8]) == (409, "MSE-PAIR"), told
    paired = console.ok("mse1", "POST", "/v1/ha/pair?wait_s=60", {**wrong, "password": secret})
    assert paired["state"] == "done", paired
    steps = [step["name"] for step in paired["steps"]]
    assert steps == ["pairing with the secondary", "making them voters"]
    at.until_mode("PINNED")
    init = ("witness", "init", "--config", WITNESS_CONFIG_PATH, "--password-file", "-", "--force")
    at.ok("witness", *init, typed=f"{secret}\n")
    body = {"address": "10.10.10.13", "password": secret}
    enrolled = console.ok("mse1", "PUT", "/v1/ha/witness?wait_s=60", body)
    assert enrolled["state"] == "done", enrolled
    at.until_sync(60)
    logs = at.run("mse1", "sh", "-c", "cat /var/log/console/*.log /var/lib/openmse/*.jsonl").stdout
    assert secret not in logs
