"""The REST API beside the pages: engines changed, the past, what is to be known before a move; who
may, what is refused, and that nothing has changed then."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from api_machine import Served
from live_pair import Site, until
from pair_at_rest import config_at_rest
from stage import ADMIN, ConsoleProcess

pytestmark = pytest.mark.timeout(120)
ROLES = ("viewer", "operator", "administrator")


@pytest.fixture(scope="module", autouse=True)
def _engines(site: Site, console: ConsoleProcess) -> None:
    console.add(site, "mse1", "mse2")


@pytest.fixture(scope="module")
def clients(console: ConsoleProcess) -> Iterator[dict[str, Any]]:
    """A program for each role, with a token that an administrator's client has made it."""
    with console.logged_in() as admin:
        found: dict[str, Any] = {}
        for role in ROLES:
            body = {"name": f"program-{role}", "role": role, "days": 1}
            made = admin.post("/api/v1/tokens", json=body)
            assert made.status_code == 201, made.text
            bearer = {"Authorization": f"Bearer {made.json()['token']}"}
            found[role] = console.client(headers=bearer)
        yield found
        for client in found.values():
            client.close()


def _fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return set(answer.json()["error"]["fields"])


def _audit(client: Any, action: str) -> list[tuple[str, str, str]]:
    """Who did that to whom, with which outcome; the newest first."""
    entries = client.get("/api/v1/audit", params={"action": action}).json()["entries"]
    return [(e["who"], e["target"], e["outcome"]) for e in entries]


def _engine(client: Any, number: int = 1) -> dict[str, Any]:
    """What this console keeps of an engine."""
    kept = ("name", "address", "port", "contact", "fingerprint")
    found = client.get(f"/api/v1/engines/{number}").json()
    return {name: found[name] for name in kept}


def test_an_engine_is_changed_as_on_its_page(clients: dict[str, Any], site: Site) -> None:
    """What cannot be is told by its field, and changes nothing; what can is noted."""
    client, path = clients["administrator"], "/api/v1/engines/1"
    before, noted = _engine(client), len(_audit(client, "edit engine"))
    other = site.nodes["mse2"].port
    for body, field in (
        ({}, ""),
        ({"name": "?"}, "name"),
        ({"name": "mse2"}, "name"),
        ({"address": "1.2.3"}, "address"),
        ({"port": 0}, "port"),
        ({"port": 10**30}, "port"),
    ):
        assert _fields(client.patch(path, json=body)) == ({field} if field else set())
    assert client.patch(path, json={"fingerprnt": "AB"}).status_code == 422
    taken = client.patch(path, json={"port": other})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "MSE-CON-021")
    assert "is the engine 'mse2' already" in taken.json()["error"]["sentence"]
    silent = client.patch(path, json={"port": 1})
    assert (silent.status_code, silent.json()["error"]["code"]) == (502, "MSE-CON-030")
    for role in ROLES[:2]:
        for method, url, body in (
            ("PATCH", path, {"contact": "nobody"}),
            ("POST", "/api/v1/engines/check", {"address": "127.0.0.1", "port": other}),
        ):
            assert clients[role].request(method, url, json=body).status_code == 403
    assert client.patch("/api/v1/engines/99", json={"contact": "x"}).status_code == 404
    assert _engine(client) == before
    assert len(_audit(client, "edit engine")) == noted

    changed = client.patch(path, json={"name": "mse1 north", "contact": "day desk"})
    assert changed.status_code == 200, changed.text
    assert _engine(client) == {**before, "name": "mse1 north", "contact": "day desk"}
    assert client.patch(path, json={"name": "mse1"}).status_code == 200
    who = f"{ADMIN} (token program-administrator)"
    assert _audit(client, "edit engine")[:2] == [
        (who, "mse1", "done"),
        (who, "mse1 north", "done"),
    ]


def test_a_new_address_shows_what_was_confirmed(
    clients: dict[str, Any], site: Site, console: ConsoleProcess
) -> None:
    """The same certificate needs nothing more; another one is pinned only as it was compared."""
    client, path = clients["administrator"], "/api/v1/engines/1"
    before, node = _engine(client), site.nodes["mse1"]
    at = {"address": "127.0.0.1", "port": node.port}
    shown = client.post("/api/v1/engines/check", json=at).json()
    assert shown == {**at, "fingerprint": before["fingerprint"], "product": shown["product"]}
    assert "MSE" in shown["product"].upper()
    assert client.patch(path, json={"address": "localhost"}).status_code == 200
    assert _engine(client) == {**before, "address": "localhost"}
    assert client.patch(path, json={**at, "is_renewed": True}).status_code == 200
    assert _engine(client) == before

    for body in ({"port": console.port}, {"port": console.port, "fingerprint": "AB:CD"}):
        refused = client.patch(path, json=body)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (502, "MSE-CON-031"), error
        assert "nothing was sent to it, nothing was changed" in error["sentence"]
        assert _engine(client) == before
    compared = error["fields"]["fingerprint"]
    assert compared != before["fingerprint"]
    body = {"port": console.port, "fingerprint": compared}
    assert client.patch(path, json=body).status_code == 200
    assert _engine(client) == {**before, "port": console.port, "fingerprint": compared}
    assert client.patch(path, json=at).status_code == 502  # it is the other one now
    body = {**at, "fingerprint": before["fingerprint"]}
    assert client.patch(path, json=body).status_code == 200
    assert _engine(client) == before
    until(lambda: client.get(path).json()["reachability"] == "ok", "it is heard again", 20)


def test_server_and_pair_as_the_engine_prints_them(clients: dict[str, Any], site: Site) -> None:
    """Page and API ask the engine at that moment; what does not answer is said, and no more."""
    client, at = clients["viewer"], "/api/v1/engines/2/server"
    config_at_rest(site)
    until(
        lambda: client.get("/api/v1/pairs/1").json().get("why_not_switchover") == "",
        "nothing is under way",
        40,
    )
    told = client.get(at).json()
    node = Served(site.nodes["mse2"], site.nodes["mse2"].port)
    printed = node.ok("GET", "/v1/ha-info")
    assert {key: value for key, value in printed.items() if key != "format"} == told["ha"]
    config, server = node.ok("GET", "/v1/server-info")["config"], told["server"]
    assert {key: config[key] for key in server["config"]} == server["config"]
    assert server["monitor"]["max_memory_mb"] > 0
    assert (told["ha"]["role"], len(told["ha"]["peers"])) == ("secondary", 1)
    text = client.get("/engines/2/server").text
    for word in ("Server of mse2", server["config"]["serial"], told["ha"]["peers"][0]["address"]):
        assert word in text
    assert 'href="/engines/2/server"' in client.get("/engines/2").text
    assert client.get("/api/v1/engines/99/server").status_code == 404
    assert client.get("/engines/99/server").status_code == 404


def test_an_engine_is_added_by_the_rules_of_the_wizard(clients: dict[str, Any], site: Site) -> None:
    """Names, addresses and what is here already are looked at before anything is sent."""
    client, node = clients["administrator"], site.nodes["mse1"]
    body = {
        "name": "mse9",
        "address": "127.0.0.1",
        "port": node.port,
        "fingerprint": node.serve_fingerprint(),
        "user": "admin",
        "password": "never sent",
    }
    assert _fields(client.post("/api/v1/engines", json={**body, "name": "<b>"})) == {"name"}
    assert _fields(client.post("/api/v1/engines", json={**body, "name": "mse2"})) == {"name"}
    assert _fields(client.post("/api/v1/engines", json={**body, "port": -1})) == {"port"}
    again = client.post("/api/v1/engines", json=body)
    assert again.status_code == 409
    assert "is the engine 'mse1' already" in again.json()["error"]["sentence"]
    assert client.get("/api/v1/engines").json()["count"] == 2


def test_the_past_of_a_pair(clients: dict[str, Any], site: Site) -> None:
    """Owners, the move's phases in milliseconds, events as JSON and CSV by the same filters."""
    client, path = clients["operator"], "/api/v1/pairs/1"
    look = clients["viewer"]
    old, begun = _moved(client, path)
    hour = {"span": "1h"}

    def kinds() -> set[str]:
        return {move["kind"] for move in look.get(f"{path}/timeline", params=hour).json()["moves"]}

    until(lambda: "handover_done" in kinds(), "the move is told", 30)
    _all_told(look, path, site)
    found = look.get(f"{path}/timeline", params=hour).json()
    assert found["span"] == "1h"
    move = found["moves"][0]
    assert (move["kind"], move["node"], move["is_done"]) == ("handover_done", old, True)
    names = [phase["name"] for phase in move["phases"]]
    assert names == ["checkpoint", "stop", "drain", "hand_over", "promote"]
    assert move["total_ms"] == sum(phase["ms"] for phase in move["phases"]) > 0
    reign = found["owners"][-1]
    assert ({reign["owner"], old}, reign["until"]) == ({"mse1", "mse2"}, None)
    assert found["since"] < reign["since"] < found["until"]
    assert {"events", "kinds"} == set(look.get(f"{path}/events").json())
    assert look.get(f"{path}/timeline", params={"span": "an hour"}).json()["span"] == "15m"

    actions = look.get(f"{path}/actions").json()["actions"]
    assert begun in {action["id"] for action in actions}
    points = look.get(f"{path}/figures").json()["points"]
    assert {"at_ms", "round_trip_ms", "lag_bytes"} == set(points[-1])
    assert look.get(f"{path}/settings").json()["failover_wait_s"] == 2.0
    _events_as_files(look, path)


def _moved(client: Any, path: str) -> tuple[str, str]:
    """Who owned before a switchover, and its action."""
    until(lambda: client.get(path).json().get("why_not_switchover") == "", "it may", 40)
    owner = client.get(path).json()["owner"]
    begun = client.post(f"{path}/do/switchover", json={})
    assert begun.status_code == 202, begun.text
    action = f"/api/v1/actions/{begun.json()['id']}"
    until(lambda: client.get(action).json()["state"] != "running", "it has ended", 40)
    ended = client.get(action).json()
    assert ended["state"] == "done", ended
    return owner, begun.json()["id"]


def _all_told(look: Any, path: str, site: Site) -> None:
    """The old owner has followed, and both engines' words of that are kept: nothing more comes."""
    wanted = {"kind": "config_chosen", "span": "1h"}
    last = f"epoch {config_at_rest(site).epoch}:"

    def told_by() -> set[str]:
        events = look.get(f"{path}/events", params=wanted).json()["events"]
        return {event["node"] for event in events if last in event["sentence"]}

    until(lambda: told_by() == {"mse1", "mse2"}, "both have told of the last config", 30)


def _events_as_files(look: Any, path: str) -> None:
    wanted = {"kind": "config_chosen", "span": "1h"}
    events = look.get(f"{path}/events", params=wanted).json()["events"]
    assert events
    file = look.get(f"{path}/events.csv", params=wanted)
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert file.headers["content-disposition"].startswith('attachment; filename="events-1-')
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert rows == [{key: str(value) for key, value in event.items()} for event in events]
    page = look.get("/pairs/1/events.csv", params=wanted)
    assert page.text == file.text
    first = {"before": events[0]["at"], "limit": 1, **wanted}
    older = look.get(f"{path}/events", params=first).json()["events"]
    assert all(event["at"] < events[0]["at"] for event in older)
    assert len(older) <= 1
    assert look.get(f"{path}/events", params={"since": "2099-01-01"}).json()["events"] == []
    for query in ({"since": "yesterday"}, {"before": "0001-01-01T00:00+14:00"}):
        for name in ("events", "events.csv"):
            assert _fields(look.get(f"{path}/{name}", params=query)) == set(query)
    for name in ("timeline", "events.csv", "actions", "figures", "settings"):
        assert look.get(f"/api/v1/pairs/99/{name}").status_code == 404


def test_what_is_to_be_known_before_a_move(clients: dict[str, Any]) -> None:
    """Who is asked, what has to be typed, why not; for whom may begin it."""
    path = "/api/v1/pairs/1"
    until(lambda: clients["viewer"].get(path).json().get("data_replication") == "Up", "in step", 40)
    assert clients["viewer"].get(f"{path}/do/switchover").status_code == 403
    plain = clients["operator"].get(f"{path}/do/switchover").json()
    assert (plain["confirm"], plain["may_lose_data"], plain["takeover"]) == (None, False, None)
    assert {plain["asked"], plain["other"]} == {"mse1", "mse2"}
    assert clients["operator"].get(f"{path}/do/takeover").status_code == 403
    client = clients["administrator"]
    forced = client.get(f"{path}/do/takeover").json()
    assert forced["confirm"] == forced["asked"] == plain["other"]
    assert forced["takeover"]["warning"]
    assert "a switchover loses nothing" in forced["why_not"]
    rare = client.get(f"{path}/do/confirm_alone").json()
    assert (rare["why_not_code"], rare["confirm"]) == ("none_waits", plain["asked"])
    assert client.get(f"{path}/do/dance").status_code == 404


def test_what_is_refused_is_noted_and_changes_nothing(clients: dict[str, Any]) -> None:
    """As on the pages: a name that was not typed, a witness that cannot be, settings, a pair."""
    client, path = clients["administrator"], "/api/v1/pairs/1"
    until(lambda: client.get(path).json().get("data_replication") == "Up", "in step", 40)
    before = client.get(f"{path}/settings").json()
    who = f"{ADMIN} (token program-administrator)"
    assert _fields(client.post(f"{path}/do/unpair", json={"confirm": "mse9"})) == {"confirm"}
    assert _audit(client, "unpair")[0] == (who, "mse1 + mse2", "refused")
    assert _fields(client.put(f"{path}/witness", json={"address": "here"})) == {"address"}
    assert _fields(client.put(f"{path}/witness", json={"kind": "nobody"})) == {"kind"}
    etcd = {"kind": "etcd", "endpoints": ["mse"], "ca_file": "ca.pem"}
    assert _fields(client.put(f"{path}/witness", json=etcd)) == {"endpoints", "ca_file"}
    assert _audit(client, "witness_replace")[0] == (who, "mse1 + mse2", "refused")
    headers = {"Content-Type": "application/json"}
    endless = client.patch(
        f"{path}/settings", content=b'{"failover_wait_s": 1e999}', headers=headers
    )
    assert endless.status_code == 422
    assert (
        "A number of seconds"
        in client.post("/pairs/1/settings", data={"failover_wait_s": "inf"}).text
    )
    pair = {"primary_id": 1, "secondary_id": 2}
    paired = client.post("/api/v1/pairs", json=pair)
    assert paired.status_code == 409
    assert "is paired already" in paired.json()["error"]["sentence"]
    assert client.post("/api/v1/pairs", json={**pair, "witnes": None}).status_code == 422
    for role in ROLES[:2]:
        assert clients[role].patch(f"{path}/settings", json={}).status_code == 403
    assert clients["viewer"].post(f"{path}/maintenance", json={"is_on": True}).status_code == 403
    assert client.get(f"{path}/settings").json() == before


def test_a_change_of_settings_can_be_put_back(clients: dict[str, Any]) -> None:
    """Its page has the old values of what was changed, for whoever may change them."""
    client, path = clients["administrator"], "/api/v1/pairs/1"
    until(lambda: client.get(path).json().get("data_replication") == "Up", "in step", 40)
    before = client.get(f"{path}/settings").json()
    wait_s = before["failover_wait_s"]
    wanted = {"failover_wait_s": wait_s + 1, "failback_type": before["failback_type"]}
    begun = client.patch(f"{path}/settings", json=wanted).json()["id"]
    until(lambda: client.get(f"/api/v1/actions/{begun}").json()["state"] == "done", "changed", 40)
    assert client.get(f"{path}/settings").json()["failover_wait_s"] == wait_s + 1
    assert "Put back" not in clients["viewer"].get(f"/actions/{begun}").text
    shown = client.get(f"/actions/{begun}").text
    assert "settings before" in shown
    form = shown.partition("<h2>Put back</h2>")[2].partition("</form>")[0]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    assert fields == {"failover_wait_s": str(wait_s)}
    assert client.post("/pairs/1/settings", data=fields).status_code in (200, 303)
    until(lambda: client.get(f"{path}/settings").json() == before, "as before", 40)


def test_a_missing_witness_is_shown(clients: dict[str, Any], site: Site) -> None:
    """The pair serves on; the API, its page, the overview and the list say what is missing."""
    client, path = clients["viewer"], "/api/v1/pairs/1"
    until(lambda: client.get(path).json().get("data_replication") == "Up", "in step", 40)
    site.power_off("witness")
    try:
        until(lambda: client.get(path).json()["witness"] == "Silent", "it is missed", 20)
        pair = client.get(path).json()
        assert (pair["owner"] is not None, pair["health"]) == (True, "warn")
        (alarm,) = [alarm for alarm in pair["alarms"] if alarm["kind"] == "witness_lost"]
        assert "no automatic takeover" in alarm["sentence"]
        page = client.get("/pairs/1").text
        assert "The service goes on. While it is silent" in page
        overview = client.get("/pairs").text
        assert "Silent" in overview
        assert "witness lost" in overview
        until(lambda: client.get("/engines").text.count("witness lost") == 2, "both say it", 20)
    finally:
        with site.lock:
            site.world.power_on(site.world.machines["witness"])
    until(lambda: client.get(path).json()["witness"] == "Heard", "it is back", 20)
    until(lambda: "witness lost" not in client.get("/engines").text, "neither says it", 20)


def test_the_description_names_errors_and_how_one_is_known(clients: dict[str, Any]) -> None:
    """OpenAPI: every call has the shape of its errors, and a token or a session opens it."""
    described = clients["viewer"].get("/api/v1/openapi.json").json()
    assert set(described["components"]["securitySchemes"]) == {"token", "session"}
    for path, item in described["paths"].items():
        for method, call in item.items():
            assert call["security"] == [{"token": []}, {"session": []}], (method, path)
            if path.startswith("/api/v1"):
                error = call["responses"]["4XX"]["content"]["application/json"]["schema"]
                assert error["$ref"].endswith("/ErrorAnswer"), (method, path)
    file = described["paths"]["/api/v1/pairs/{engine_id}/events.csv"]["get"]["responses"]["200"]
    assert set(file["content"]) == {"text/csv"}
    page = clients["viewer"].get("/api/docs").text
    assert "/api/v1/pairs/{engine_id}/timeline" in page
