"""What the management API changes: operations over a real control socket and the real core."""

import json
import time
from typing import Any

import httpx
import pytest
from api_machine import CalmCore, Machine, Served, SlowPairing, until
from live_core import NoPairing, config, serving

from openmse.ha.values import Mode
from openmse.node.control.commands import PairArgs, ReadmitArgs, WitnessArgs

PAIR = {"peer": "127.10.10.12", "password": "pairing secret 1"}


def test_a_setting_is_changed_in_the_register(served: Served) -> None:
    done = served.ok("PATCH", "/v1/ha/settings", json={"failover_wait_s": 3})
    assert (done["state"], done["kind"], done["by"]) == ("done", "settings", "user admin")
    assert done["sentence"] == "The change is in force."
    assert served.ok("GET", "/v1/ha/settings")["failover_wait_s"] == 3.0


def test_maintenance_on_and_off(served: Served) -> None:
    for is_on in (True, False):
        served.ok("POST", "/v1/ha/maintenance", json={"is_on": is_on})
        assert served.ok("GET", "/v1/ha/settings")["is_maintenance"] is is_on


def test_a_refusal_of_the_core_is_its_own_sentence(served: Served) -> None:
    error = served.refused("POST", "/v1/ha/switchover", 409, "MSE-CMD-001", json={})
    assert error["sentence"] == "This node is not paired."
    kept = served.ok("GET", f"/v1/operations/{error['operation']}")
    assert (kept["state"], kept["error"]["code"]) == ("refused", "MSE-CMD-001")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"failover_wait_s": 1}, "between 2 s and 120 s"),
        ({"boot_patience_s": 1}, "longer than the failover wait"),
        ({}, "No setting was given"),
    ],
)
def test_impossible_settings_change_nothing(
    shared: Served, body: dict[str, Any], words: str
) -> None:
    before = shared.ok("GET", "/v1/ha/settings")
    error = shared.refused("PATCH", "/v1/ha/settings", 400, "MSE-USE-001", json=body)
    assert words in error["sentence"]
    assert shared.ok("GET", "/v1/ha/settings") == before


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PATCH", "/v1/ha/settings", {"wait": 3}, "wait"),
        ("PATCH", "/v1/ha/settings", {"failover_wait_s": "3"}, "failover_wait_s"),
        ("PATCH", "/v1/ha/settings", {"failover_type": "sometimes"}, "failover_type"),
        ("POST", "/v1/ha/maintenance", {}, "is_on"),
        ("POST", "/v1/ha/maintenance", {"is_on": "yes"}, "is_on"),
        ("POST", "/v1/ha/takeover", {"confirm": "mse1"}, "force"),
        ("POST", "/v1/ha/pair", {"peer": "127.10.10.12"}, "password"),
        ("POST", "/v1/ha/pair", {**PAIR, "pairing_port": 70000}, "pairing_port"),
        ("POST", "/v1/ha/switchover?wait_s=100", {}, "wait_s"),
    ],
)
def test_wrong_fields_are_named(
    shared: Served, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    error = shared.refused(method, path, 422, "MSE-API-015", json=body)
    assert [fault["field"] for fault in error["fields"]] == [field]


def test_a_secret_in_a_wrong_body_is_not_told_back(shared: Served) -> None:
    body = {"peer": "127.10.10.12", "password": ["very secret word"]}
    found = shared.ask("POST", "/v1/ha/pair", json=body)
    assert found.status_code == 422
    assert "very secret word" not in found.text


def test_a_takeover_wants_the_name_typed(machine: Machine) -> None:
    core = CalmCore(serving("mse1", config(Mode.ALONE, owner="mse2")))
    with machine.monitor(core), machine.serve() as served:
        before = core.node.record
        body = {"force": True, "confirm": "mse2"}
        error = served.refused("POST", "/v1/ha/takeover", 400, "MSE-USE-001", json=body)
        assert "this node is 'mse1'" in error["sentence"]
        assert core.node.record is before
        assert served.ok("GET", "/v1/operations")["operations"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/ha/unpair", {"confirm": "mse2"}),
        ("POST", "/v1/node/stop", {"confirm": ""}),
        ("DELETE", "/v1/ha/witness?confirm=x", None),
    ],
)
def test_what_interrupts_wants_the_name_typed(
    shared: Served, method: str, path: str, body: dict[str, Any] | None
) -> None:
    error = shared.refused(method, path, 400, "MSE-USE-001", json=body)
    assert "nothing was changed" in error["sentence"]


def test_pairing_reaches_the_health_monitor(machine: Machine) -> None:
    pairing = NoPairing()
    witness = {"kind": "console", "address": "10.10.10.13", "password": "witness secret 2"}
    with machine.monitor(pairing=pairing), machine.serve() as served:
        done = served.ok("POST", "/v1/ha/pair", json={**PAIR, "witness": witness})
        replaced = served.ok("PUT", "/v1/ha/witness", json=witness)
        removed = served.ok("DELETE", "/v1/ha/witness?confirm=mse1")
        unpaired = served.ok("POST", "/v1/ha/unpair", json={"confirm": "mse1"})
        again = {"password": "another secret 3", "confirm": "mse1"}
        waiting = served.ok("POST", "/v1/ha/readmit", json=again)
    enrolled = WitnessArgs("console", address="10.10.10.13", password="witness secret 2")
    assert pairing.asked == [
        PairArgs("127.10.10.12", "pairing secret 1", witness=enrolled),
        enrolled,
        "remove",
        ("unpair", False),
        ReadmitArgs("another secret 3", 3600.0),
    ]
    assert (waiting["sentence"], waiting["args"]) == ("waiting", {"valid_for_s": 3600.0})
    told = [one["sentence"] for one in (done, replaced, removed, unpaired)]
    assert told[1:] == ["replaced", "removed", "dissolved"]
    assert told[0].startswith("paired The machine types were not compared: the management API of ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({**PAIR, "peer": "mse2"}, "not an IP address"),
        ({**PAIR, "peer": "10.10.10.11"}, "this node's own"),
        ({**PAIR, "witness": {"address": "10.10.10.13"}}, "enrolled with its password"),
        ({**PAIR, "witness": {"kind": "etcd"}}, "needs endpoints"),
    ],
)
def test_a_pairing_that_cannot_work_is_not_begun(
    served: Served, body: dict[str, Any], words: str
) -> None:
    error = served.refused("POST", "/v1/ha/pair", 400, "MSE-USE-001", json=body)
    assert words in error["sentence"]
    assert served.ok("GET", "/v1/operations")["operations"] == []


def test_secrets_are_nowhere_on_disk(machine: Machine) -> None:
    pairing = NoPairing()
    with machine.monitor(pairing=pairing), machine.serve() as served:
        served.ok("POST", "/v1/ha/pair", json=PAIR)
        token = served.ok("POST", "/v1/tokens", json={"name": "t"})["token"]
        body = {"role": "viewer", "password": "another secret 3"}
        served.ok("PUT", "/v1/users/viewer", json=body)
    kept = b"".join(path.read_bytes() for path in machine.state.rglob("*") if path.is_file())
    for secret in (PAIR["password"], token, token.split("_", 2)[2], "another secret 3"):
        assert secret.encode() not in kept, secret
    assert b'"pair"' in kept, "the audit has it"
    for path in machine.places.directory.rglob("*"):
        if path.is_file() and path != machine.places.certificate:
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_long_operation_is_followed(machine: Machine) -> None:
    pairing = SlowPairing()
    with machine.monitor(pairing=pairing), machine.serve() as served:
        begun = served.ask("POST", "/v1/ha/pair?wait_s=0", json=PAIR)
        assert begun.status_code == 202
        path = begun.headers["location"]
        until(lambda: served.ok("GET", path)["steps"], "the first step")
        assert served.ok("GET", path)["state"] == "running"
        again = served.refused("POST", "/v1/ha/pair", 409, "MSE-API-021", json=PAIR)
        assert path.endswith(again["operation"])
        assert [
            one["id"] for one in served.ok("GET", "/v1/operations?state=running")["operations"]
        ] == [again["operation"]]
        served.ok("GET", "/v1/status")  # others are served meanwhile
        pairing.let_go.set()
        until(lambda: served.ok("GET", path)["state"] == "done", "it is done")
        told = served.ok("GET", path)
    assert [step["name"] for step in told["steps"]] == ["the first step", "the second step"]
    assert told["steps"][0]["ms"] <= told["steps"][1]["ms"] <= told["elapsed_ms"]
    assert len(pairing.asked) == 1


def test_a_repetition_with_the_same_key_is_no_second_one(machine: Machine) -> None:
    pairing = SlowPairing()
    pairing.let_go.set()
    headers = {"Idempotency-Key": "try-1"}
    with machine.monitor(pairing=pairing), machine.serve() as served:
        first, second = (
            served.ok("POST", "/v1/ha/pair?wait_s=10", json=PAIR, headers=headers) for _ in "12"
        )
        assert first["id"] == second["id"]
        assert len(pairing.asked) == 1
        other = served.ok("POST", "/v1/ha/pair?wait_s=10", json=PAIR)
        assert other["id"] != first["id"]
        wrong = {"Idempotency-Key": "a b"}
        served.refused("POST", "/v1/ha/pair", 400, "MSE-USE-001", json=PAIR, headers=wrong)
    with machine.monitor(pairing=pairing), machine.serve() as served:  # also after a restart
        third = served.ok("POST", "/v1/ha/pair?wait_s=10", json=PAIR, headers=headers)
    assert third["id"] == first["id"]
    assert len(pairing.asked) == 2


def test_with_the_health_monitor_down_nothing_is_changed(machine: Machine) -> None:
    with machine.serve() as served:
        error = served.refused("POST", "/v1/ha/switchover", 503, "MSE-CTL-002", json={})
        assert served.ok("GET", f"/v1/operations/{error['operation']}")["state"] == "refused"


def test_a_health_monitor_that_dies_meanwhile(machine: Machine) -> None:
    pairing = SlowPairing()
    with machine.serve() as served:
        with machine.monitor(pairing=pairing):
            path = served.ask("POST", "/v1/ha/pair?wait_s=0", json=PAIR).headers["location"]
            until(lambda: served.ok("GET", path)["steps"], "it has begun")
        until(lambda: served.ok("GET", path)["state"] != "running", "it is over")
        told = served.ok("GET", path)
    assert told["state"] == "lost"
    assert told["error"]["code"] == "MSE-CTL-004"
    assert "look at the status" in told["sentence"]


def test_every_change_is_audited(served: Served) -> None:
    served.ok("POST", "/v1/ha/maintenance", json={"is_on": True})
    served.ask("POST", "/v1/ha/switchover", json={})
    entries = served.ok("GET", "/v1/audit")["entries"]
    told = [(one["action"], one["result"], one["who"]) for one in reversed(entries)]
    assert told == [
        ("maintenance", "begun", "user admin"),
        ("maintenance", "done", "user admin"),
        ("switchover", "begun", "user admin"),
        ("switchover", "refused", "user admin"),
    ]
    assert entries[-1]["args"] == {"is_on": True}
    assert entries[0]["code"] == "MSE-CMD-001"
    assert served.machine.people is not None
    assert served.context is not None
    assert served.context.audit.faults() == []


def test_without_an_audit_nothing_is_changed(served: Served) -> None:
    audit = served.machine.places.audit
    audit.unlink(missing_ok=True)
    audit.mkdir()
    before = served.ok("GET", "/v1/ha/settings")
    body = {"failover_wait_s": 4}
    error = served.refused("PATCH", "/v1/ha/settings", 503, "MSE-API-032", json=body)
    assert "nothing was changed" in error["sentence"]
    served.refused("PUT", "/v1/users/x", 503, "MSE-API-032", json={"role": "viewer"})
    assert served.ok("GET", "/v1/ha/settings") == before
    audit.rmdir()
    served.ok("PATCH", "/v1/ha/settings", json=body)


def test_a_rehearsal_that_must_not_start(served: Served) -> None:
    error = served.refused("POST", "/v1/ha/drill", 409, "MSE-CMD-001", json={})
    assert "not paired" in error["sentence"]
    assert len(served.ok("GET", "/v1/ha/drills")["drills"]) == 1


def test_a_secondary_waits_with_a_password(machine: Machine) -> None:
    machine.configure(role="secondary")
    with machine.serve() as served:
        served.refused("POST", "/v1/ha/pair", 400, "MSE-USE-001", json=PAIR)
        path = "/v1/node/pairing-password"
        served.ok("PUT", path, json={"password": "pairing secret 1"})
        kept = json.loads((machine.state / "pairing-password").read_text())
        assert kept["failures"] == 0
        served.refused("PUT", path, 400, "MSE-PAIR-020", json={"password": "short"})
        (machine.state / "group.json").write_text("{}")
        served.refused("PUT", path, 409, "MSE-CMD-001", json={"password": "pairing secret 1"})


def test_a_primary_waits_for_nobody(shared: Served) -> None:
    body = {"password": "pairing secret 1"}
    shared.refused("PUT", "/v1/node/pairing-password", 400, "MSE-USE-001", json=body)


def test_operations_survive_a_restart(machine: Machine) -> None:
    with machine.monitor():
        with machine.serve() as served:
            done = served.ok("POST", "/v1/ha/maintenance", json={"is_on": True})
        with machine.serve() as served:
            assert served.ok("GET", f"/v1/operations/{done['id']}") == done


@pytest.mark.parametrize("name", ["x", "20260131T030000-00000000", "..%2Fusers"])
def test_an_unknown_operation(shared: Served, name: str) -> None:
    shared.refused("GET", f"/v1/operations/{name}", 404, "MSE-API-010")


def test_many_at_once_are_all_answered(shared: Served) -> None:
    """The health monitor accepts few connections: the API queues, and refuses beyond a bound."""
    from concurrent.futures import ThreadPoolExecutor

    began = time.monotonic()
    with shared.client() as client, ThreadPoolExecutor(12) as pool:

        def ask(_: int) -> httpx.Response:
            return client.get("/v1/status")

        found = list(pool.map(ask, range(120)))
    assert {one.status_code for one in found} == {200}
    assert time.monotonic() - began < 30
