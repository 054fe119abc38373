"""What the management API tells, over real TLS, with the health monitor up and down."""

import httpx
import pytest
from api_machine import CalmCore, Machine, Served
from live_core import config, serving

from openmse.api.identity import fingerprint
from openmse.ha.values import Mode

READABLE = (
    "/v1/me",
    "/v1/info",
    "/v1/summary",
    "/v1/events",
    "/v1/doctor",
    "/v1/journal",
    "/v1/server-info",
    "/v1/ha-info",
    "/v1/config",
    "/v1/ha/drills",
    "/v1/operations",
    "/v1/console",
    "/v1/licences",
    "/metrics",
)
"""What must also work with the health monitor down."""
LIVE = ("/v1/status", "/v1/ha/settings", "/v1/ha/takeover")


def test_anybody_may_know_what_answers_here(shared: Served) -> None:
    told = shared.ok("GET", "/v1/hello", auth=None)
    assert told == {
        "product": "OpenMSE",
        "api": 1,
        "fingerprint": fingerprint(shared.machine.places.certificate),
    }
    assert len(told["fingerprint"]) == 95


@pytest.mark.parametrize("path", [*READABLE, *LIVE, "/v1/stream", "/v1/users", "/v1/audit"])
def test_nothing_else_is_told_to_strangers(shared: Served, path: str) -> None:
    shared.refused("GET", path, 401, "MSE-API-002", auth=None)


def test_the_status_is_the_snapshot_as_it_is(shared: Served) -> None:
    told = shared.ok("GET", "/v1/status")
    assert (told["node"], told["state"], told["register"]["owner"]) == (
        "mse1",
        "PRIMARY_ALONE",
        "mse1",
    )
    assert told["pids"] == {"health-monitor": 17, "postgres": None}


def test_who_this_machine_is(shared: Served) -> None:
    told = shared.ok("GET", "/v1/info")
    assert told["node"] == "mse1"
    assert told["role"] == "primary"
    assert told["udi"] == f"{told['product_id']}:V01:{told['serial']}"
    assert told["product_id"] in ("OPENMSE-VA", "OPENMSE-HW")
    assert told["health_monitor_address"] == "10.10.10.11"
    assert [(one["name"], one["service_status"]) for one in told["services"]] == [
        ("platform", "up")
    ]
    assert told["offers"] == ["high_availability", "licensing"]
    assert told["machine"]["memory_bytes"] > 1e8


def test_the_identity_of_a_machine_stays(machine: Machine) -> None:
    found = []
    for _ in range(2):
        with machine.serve() as served:
            told = served.ok("GET", "/v1/info")
            found.append((told["udi"], told["fingerprint"]))
    assert found[0] == found[1]


def test_a_summary_has_what_a_list_shows(shared: Served) -> None:
    told = shared.ok("GET", "/v1/summary")
    assert (told["owner"], told["mode"], told["epoch"]) == ("mse1", "ALONE", 3)
    assert told["error"] is None
    assert told["admits_clients"] is True


def test_settings_in_seconds(shared: Served) -> None:
    told = shared.ok("GET", "/v1/ha/settings")
    assert (told["failover_wait_s"], told["lease_s"], told["is_maintenance"]) == (5.0, 4.75, False)


def test_the_loss_is_shown_before_a_takeover(machine: Machine) -> None:
    core = CalmCore(serving("mse2", config(Mode.ALONE, owner="mse1")))
    with machine.monitor(core), machine.serve() as served:
        told = served.ok("GET", "/v1/ha/takeover")
    assert told["loss"]["owner"] == "mse1"
    assert "mse1 will serve if it is started" in told["warning"]
    assert told["confirm"] == "mse2"


def test_the_doctor_finds_that_it_is_not_paired(shared: Served) -> None:
    told = shared.ok("GET", "/v1/doctor")
    assert "unpaired" in [found["code"] for found in told["findings"]]


def test_metrics_are_figures_that_prometheus_reads(shared: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = shared.ask("GET", "/metrics").text
    figures = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert figures["openmse_up",] == 1.0
    assert figures["openmse_owner",] == 1.0
    assert figures["openmse_epoch",] == 3.0
    assert figures["openmse_state", ("value", "PRIMARY_ALONE")] == 1.0
    assert figures["openmse_state", ("value", "TERMINATED")] == 0.0


def test_events_are_filtered_and_paged(served: Served) -> None:
    for number in range(5):
        served.machine.log("tick", f"Tick {number}.", severity="warning" if number == 3 else "info")
    served.machine.log("role", "It owns.")
    every = served.ok("GET", "/v1/events")["events"]
    assert [one["sentence"] for one in every] == [*(f"Tick {n}." for n in range(5)), "It owns."]
    last = served.ok("GET", "/v1/events?limit=2&kind=tick")
    assert [one["sentence"] for one in last["events"]] == ["Tick 3.", "Tick 4."]
    assert last["is_more"]
    before = served.ok("GET", f"/v1/events?limit=2&before={last['events'][0]['cursor']}")
    assert [one["sentence"] for one in before["events"]] == ["Tick 1.", "Tick 2."]
    after = served.ok("GET", f"/v1/events?limit=2&after={every[0]['cursor']}")
    assert [one["sentence"] for one in after["events"]] == ["Tick 1.", "Tick 2."]
    assert after["is_more"]
    loud = served.ok("GET", "/v1/events?severity=warning")["events"]
    assert [one["sentence"] for one in loud] == ["Tick 3."]
    assert served.ok("GET", "/v1/events?text=OWNS")["events"][0]["kind"] == "role"
    assert served.ok("GET", "/v1/events?since=1m")["events"] == []


@pytest.mark.parametrize("query", ["since=yesterday", "before=x", "after=1-", "until=9999999999d"])
def test_a_wrong_query_is_told(shared: Served, query: str) -> None:
    shared.refused("GET", f"/v1/events?{query}", 400, "MSE-USE-001")


def test_wrong_fields_of_a_query_are_named(shared: Served) -> None:
    error = shared.refused("GET", "/v1/events?limit=0&severity=loud", 422, "MSE-API-015")
    assert sorted(fault["field"] for fault in error["fields"]) == ["limit", "severity"]


def test_with_the_health_monitor_down(machine: Machine) -> None:
    machine.log("stopped", "The health monitor stopped.")
    with machine.serve() as served:
        for path in READABLE:
            assert served.ask("GET", path).status_code == 200, path
        for path in LIVE:
            error = served.refused("GET", path, 503, "MSE-CTL-002")
            assert "does not answer" in error["sentence"]
        told = served.ok("GET", "/v1/summary")
        assert told["is_monitor_up"] is False
        assert told["error"]["code"] == "MSE-CTL-002"
        assert told["state"] is told["owner"] is told["alarms"] is None
        assert served.ok("GET", "/v1/info")["services"][0]["service_status"] == "down"
        assert served.ok("GET", "/v1/doctor")["worst"] == "error"
        assert "openmse_up 0.0" in served.ask("GET", "/metrics").text
        assert served.ok("GET", "/v1/events")["events"][0]["kind"] == "stopped"
        with machine.monitor():
            served.until_up()
            assert served.ok("GET", "/v1/status")["node"] == "mse1"


def test_every_answer_has_the_headers_that_protect(shared: Served) -> None:
    for path in ("/v1/hello", "/v1/info", "/nothing", "/openapi.json"):
        headers = shared.ask("GET", path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_another_certificate_is_not_trusted(shared: Served) -> None:
    with httpx.Client() as client, pytest.raises(httpx.ConnectError):
        client.get(f"{shared.url}/v1/hello")


def test_the_pages_of_others_are_refused(shared: Served) -> None:
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
    ):
        shared.refused("POST", "/v1/ha/failback", 403, "MSE-API-006", headers=headers, json={})
    own = {"Origin": shared.url, "Sec-Fetch-Site": "same-origin"}
    assert shared.ask("GET", "/v1/me", headers=own).status_code == 200
