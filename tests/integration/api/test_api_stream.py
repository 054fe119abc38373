"""The stream of server-sent events, as a client reads it over TLS."""

import socket
import ssl
import time
from datetime import datetime

import pytest
from api_machine import ADMIN, Machine, Served, SlowPairing, basic, until

import openmse.api.stream as stream_module
from openmse.node.config import Places
from openmse.node.group import GroupInfo, NodeInfo, save
from openmse.pki.password import PairingStore

CLAIM = {"id": "console-osaka", "name": "Osaka"}
OTHER = {"id": "console-kyoto", "name": "Kyoto", "force": True, "confirm": "mse1"}


def test_pictures_and_beats_come_by_themselves(served: Served) -> None:
    with served.stream() as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.next()[:2] == ("monitor", {"is_up": True, "error": None})
        picture = stream.until("status")
        assert picture["node"] == "mse1"
        began = time.monotonic()
        while stream.beats < 3:
            stream.next()
        assert time.monotonic() - began < 6


def test_what_happens_is_told(served: Served) -> None:
    with served.stream("?view=summary") as stream:
        first = stream.until("summary")
        assert first["mode"] == "ALONE"
        entry = served.machine.log("role", "It owns.")
        kind, data, cursor = stream.next()
        assert (kind, data["sentence"]) == ("event", entry.sentence)
        assert cursor == data["cursor"]
        served.ok("POST", "/v1/ha/maintenance", json={"is_on": True})
        told = [stream.until("operation") for _ in range(2)]
        assert [one["state"] for one in told] == ["running", "done"]
        assert stream.until("summary")["epoch"] > first["epoch"]


def test_the_wait_for_a_new_machine_is_told(served: Served) -> None:
    """By the files that the health monitor goes by; of the password nothing but its end."""
    nobody = {"is_waiting": False, "lost": "", "recover_from": "", "until": ""}
    assert served.ok("GET", "/v1/ha/readmit") == nobody
    places = Places(served.machine.state, served.machine.root / "run")
    nodes = (NodeInfo("mse1", "10.10.10.11"), NodeInfo("mse2", "10.10.10.12"))
    save(places.group, GroupInfo("floor1", "mse1", nodes, ("10.10.10.10/24",)))
    store = PairingStore(places.readmission)
    with served.stream("?view=summary") as stream:
        store.set_password("a new machine", now_s=time.time(), valid_for_s=600.0)
        told = stream.until("readmission")
        ends_s = datetime.fromisoformat(told.pop("until")).timestamp()
        assert told == {"is_waiting": True, "lost": "mse2", "recover_from": "10.10.10.11"}
        assert 0 < ends_s - time.time() <= 600
        with served.stream() as second:
            assert second.until("readmission")["lost"] == "mse2", "also to who comes later"
        places.readmission.write_bytes(b"damaged")
        assert stream.until("readmission") == nobody
        store.set_password("a new machine", now_s=time.time(), valid_for_s=600.0)
        ended = served.ok("DELETE", "/v1/ha/readmit")
        assert ended["sentence"] == "mse1 waits no longer for a machine in place of mse2."
        assert store.armed(time.time()) is None, "the password is void"
        log = (served.machine.state / "events.jsonl").read_text()
        assert "admin (through root) ended the wait for a machine in place of mse2." in log
        assert served.ok("GET", "/v1/ha/readmit") == nobody
        again = served.refused("DELETE", "/v1/ha/readmit", 409, "MSE-CMD-001")
        assert "nothing was changed" in again["sentence"]
        store.set_password("a new machine", now_s=time.time() - 601, valid_for_s=600.0)
        assert served.ok("GET", "/v1/ha/readmit") == nobody, "its time is over"


def test_a_summary_is_sent_when_something_changes_only(served: Served) -> None:
    with served.stream("?view=summary") as stream:
        stream.until("summary")
        served.machine.log("mark", "A mark.")
        kinds = []
        while "event" not in kinds:
            kinds.append(stream.next()[0])
    assert "status" not in kinds
    assert kinds.count("summary") <= 1


def test_the_health_monitor_goes_and_comes(machine: Machine) -> None:
    with machine.serve() as served, served.stream() as stream:
        kind, data, _ = stream.next()
        assert (kind, data["is_up"]) == ("monitor", False)
        with machine.monitor():
            assert stream.until("monitor") is not None
            assert stream.until("status")["node"] == "mse1"
        told = stream.until("monitor")
        assert told["is_up"] is False
        assert told["error"]["code"] in ("MSE-CTL-002", "MSE-CTL-004")


def test_a_reader_that_comes_back_misses_nothing(served: Served) -> None:
    entries = [served.machine.log("tick", f"Tick {number}.") for number in range(4)]
    cursors = [one["cursor"] for one in served.ok("GET", "/v1/events")["events"]]
    for options in (
        {"headers": {"Last-Event-ID": cursors[1]}},
        {"query": f"?last_event_id={cursors[1]}"},
    ):
        with served.stream(**options) as stream:  # type: ignore[arg-type]
            told = [stream.next() for _ in range(2)]
            assert [(kind, data["sentence"]) for kind, data, _ in told] == [
                ("event", entries[2].sentence),
                ("event", entries[3].sentence),
            ]
            assert [cursor for _, _, cursor in told] == cursors[2:]


def test_what_cannot_be_sent_again_is_told(served: Served) -> None:
    with served.stream(headers={"Last-Event-ID": "something else"}) as stream:
        assert "missed" in stream.until("gap")["reason"]
    served.machine.log_many("tick", [f"Tick {number}." for number in range(1003)])
    first = served.ok("GET", "/v1/events?limit=1000&text=Tick")["events"]
    oldest = served.ok("GET", f"/v1/events?before={first[0]['cursor']}")["events"][0]["cursor"]
    with served.stream(headers={"Last-Event-ID": oldest}) as stream:
        assert "missed" in stream.until("gap")["reason"]
        assert stream.next()[1]["sentence"] == "Tick 1."


def test_an_operation_under_way_is_told_at_once(machine: Machine) -> None:
    pairing = SlowPairing()
    body = {"peer": "127.10.10.12", "password": "pairing secret 1"}
    with machine.monitor(pairing=pairing), machine.serve() as served:
        served.until_up()
        path = served.ask("POST", "/v1/ha/pair?wait_s=0", json=body).headers["location"]
        until(lambda: served.ok("GET", path)["steps"], "it has begun")
        with served.stream("?view=summary") as stream:
            told = stream.until("operation")
            assert [step["name"] for step in told["steps"]] == ["the first step"]
            pairing.let_go.set()
            assert len(stream.until("operation")["steps"]) == 2
            assert stream.until("operation")["state"] == "done"


def test_the_replaced_console_is_told_in_its_stream(served: Served) -> None:
    token = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    with served.stream("?view=summary", token=token) as stream:
        stream.until("summary")
        served.ok("POST", "/v1/console/claim", json=OTHER)
        assert stream.until("console")["console"]["name"] == "Kyoto"
        assert "no longer valid" in stream.until("bye")["reason"]
        with pytest.raises(StopIteration):
            stream.next()


def test_a_user_who_was_removed_hears_no_more(served: Served) -> None:
    served.ok("PUT", "/v1/users/eva", json={"role": "viewer", "password": "password of eva"})
    with served.stream("?view=summary", auth=("eva", "password of eva")) as stream:
        stream.until("summary")
        served.ok("DELETE", "/v1/users/eva")
        assert "no longer valid" in stream.until("bye")["reason"]


def test_streams_are_counted(served: Served) -> None:
    assert served.context is not None
    hub = served.context.hub
    token = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    with served.stream(), served.stream(), served.stream(), served.stream():
        served.refused("GET", "/v1/stream", 503, "MSE-API-031")
        assert hub.readers == 4
        with served.stream("?view=summary", token=token) as of_console:
            assert of_console.until("summary")["node"] == "mse1", "nobody can make it blind"
            served.refused("GET", "/v1/stream", 503, "MSE-API-031", token=token)
        assert served.ok("GET", "/v1/me")["name"] == "admin"
    until(lambda: hub.readers == 0, "all are gone")
    with served.stream() as stream:
        stream.until("status")


def test_a_reader_that_reads_nothing_is_dropped(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "SEND_WITHIN_S", 0.5)
    context = ssl.create_default_context(cafile=str(served.machine.places.certificate))
    context.check_hostname = False
    assert served.context is not None
    hub = served.context.hub
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", served.port))
    with context.wrap_socket(plain) as connection:
        request = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(*ADMIN)}\r\n\r\n"
        connection.sendall(request.encode())
        until(lambda: hub.readers == 1, "it has joined")
        served.machine.log_many("flood", [f"{number} " + "x" * 2000 for number in range(1500)])
        until(lambda: hub.readers == 0, "it is dropped", 30)
    assert served.ok("GET", "/v1/me")["name"] == "admin"


def test_a_reader_is_told_when_the_process_stops(machine: Machine) -> None:
    with machine.monitor(), machine.serve() as served, served.stream() as stream:
        stream.until("status")
        assert served.context is not None
        served.context.hub.close("The management API of this node is being stopped.")
        assert "stopped" in stream.until("bye")["reason"]
        served.refused("GET", "/v1/stream", 503, "MSE-API-033")
