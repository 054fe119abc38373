"""Actions for rare situations, each where it helps and where it cannot: the real core decides."""

import re
from typing import Any

import pytest
from live_pair import Site, until
from msgspec.structs import replace
from stage import ConsoleProcess

PROPOSED = re.compile(r'name="password" type="text" value="((?:[a-z2-9]{4}-){3}[a-z2-9]{4})"')
"""In the dialog, for people to write down."""


@pytest.fixture(scope="module", autouse=True)
def _engines(site: Site, console: ConsoleProcess) -> None:
    console.add(site, "mse1", "mse2")


def _pair(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/pairs/1").json()
    return found


def _ended(client: Any, begun: Any) -> dict[str, Any]:
    """How an action that was begun has ended."""
    assert begun.status_code == 202, begun.text
    path = f"/api/v1/actions/{begun.json()['id']}"
    until(lambda: client.get(path).json()["state"] != "running", "it has ended", 30)
    found: dict[str, Any] = client.get(path).json()
    return found


def _do(client: Any, kind: str, confirm: str = "") -> Any:
    return client.post(f"/api/v1/pairs/1/do/{kind}", json={"confirm": confirm})


def _error(answer: Any) -> str:
    return str(answer.json()["error"]["sentence"])


@pytest.mark.timeout(180)
def test_each_helps_where_it_should_and_says_where_not(console: ConsoleProcess, site: Site) -> None:
    """One story: set aside, another witness, no witness, writes that wait, a boot alone, a stop."""
    with console.logged_in() as client:
        until(lambda: _pair(client).get("data_replication") == "Up", "in step", 40)
        until(lambda: "neither machine is set aside" in client.get("/pairs/1").text, "both heard")
        _while_well(client)
        _rejoin(client, site)
        _third_vote(client)
        _released(client, site)
        _readmitted(client, site)
        _alone(client, site)
        wrong = client.post("/api/v1/engines/1/stop", json={"confirm": "mse2"})
        assert wrong.status_code == 422
        stopped = client.post("/api/v1/engines/1/stop", json={"confirm": "mse1"})
        assert _ended(client, stopped)["state"] == "done"
        audit = client.get("/api/v1/audit").json()["entries"]
        kinds = {e["action"] for e in audit if e["outcome"] == "done"}
        assert {"rejoin", "witness_replace", "witness_remove", "release_protect"} <= kinds
        assert {"confirm_alone", "readmit", "readmit_cancel", "stop"} <= kinds


def _while_well(client: Any) -> None:
    """Disabled on the page, with the reason; the engine refuses in its own words."""
    page = client.get("/pairs/1").text
    for words in ("no machine waits for it", "this pair has a witness"):
        assert words in page
    assert "is set aside" in _error(_do(client, "rejoin"))
    assert "Nothing waits here" in _error(_do(client, "release_protect"))
    assert "does not wait for a confirmation" in _error(_do(client, "confirm_alone", "mse1"))
    assert _do(client, "confirm_alone").status_code == 422
    assert "not possible at this moment" in client.get("/pairs/1/do/release_protect").text


def _rejoin(client: Any, site: Site) -> None:
    with site.lock:
        machine = site.world.machines["mse2"]
        assert machine.node is not None
        machine.node = replace(machine.node, quarantine="Its rejoin failed five times.")
    until(lambda: "Its rejoin failed" in client.get("/engines/2").text, "it is set aside")
    dialog = client.get("/pairs/1/do/rejoin").text
    assert "Have mse2 try its rejoin again?" in dialog
    assert "Its rejoin failed five times." in dialog
    ended = _ended(client, _do(client, "rejoin"))
    assert (ended["state"], ended["sentence"]) == ("done", "The rejoin is tried again.")
    until(lambda: _pair(client).get("data_replication") == "Up", "in step", 30)


def _third_vote(client: Any) -> None:
    assert _do(client, "witness_remove", "mse9").status_code == 422
    assert _ended(client, _do(client, "witness_remove", "mse1"))["state"] == "done"
    until(lambda: _pair(client)["witness"] == "None", "it has no vote any more")
    assert "this pair has no witness" in client.get("/pairs/1").text
    own = {"address": "10.10.10.12", "password": "secret of the witness"}
    refused = client.put("/api/v1/pairs/1/witness", json=own)
    assert "would be lost together with that node" in (
        _ended(client, refused)["sentence"] if refused.status_code == 202 else _error(refused)
    )
    form = {"witness": "console", "witness_address": "10.10.10.13", "witness_name": "w"}
    assert "password of the witness is needed" in client.post("/pairs/1/witness", data=form).text
    path = client.post("/pairs/1/witness", data={**form, "witness_password": "secret"}).url.path
    until(lambda: client.get(f"/api/v1{path}").json()["state"] == "done", "it has the vote", 30)
    until(lambda: _pair(client)["witness"] == "Heard", "it is heard", 30)


def _released(client: Any, site: Site) -> None:
    """Without a witness and with protection, writes wait for a lost machine until released."""
    assert _ended(client, _do(client, "witness_remove", "mse1"))["state"] == "done"
    given = {"no_witness_mode": "protect", "boot_alone": "ask"}
    assert _ended(client, client.patch("/api/v1/pairs/1/settings", json=given))["state"] == "done"
    site.nodes["mse2"].stop()
    site.power_off("mse2")
    until(lambda: "Writes wait for mse2" in client.get("/engines/1").text, "writes wait", 30)
    dialog = client.get("/pairs/1/do/release_protect").text
    assert "Let writes go on without mse2?" in dialog
    assert "protect" in dialog
    assert _ended(client, _do(client, "release_protect"))["state"] == "done"
    until(lambda: _pair(client)["mode"] == "ALONE", "the owner goes on alone", 30)


def _readmitted(client: Any, site: Site) -> None:
    """The other machine is lost for good: a new one is waited for, with a password."""
    until(lambda: _pair(client)["heartbeats"] == "Down", "mse2 is not heard", 30)
    assert "for a new machine in place of" not in client.get("/pairs/1").text
    dialogs = [client.get("/pairs/1/do/readmit").text for _ in range(2)]
    assert all("Wait for a new machine in place of mse2?" in dialog for dialog in dialogs)
    assert all("<code>mse setup --recover-from 10.10.10.11</code>" in one for one in dialogs)
    drawn = [re.findall(PROPOSED, dialog) for dialog in dialogs]
    assert [len(found) for found in drawn] == [1, 1]
    assert drawn[0] != drawn[1], "each is drawn anew"
    form = {"password": "short", "minutes": "5", "confirm": "mse2"}
    assert 'value="short"' in client.post("/pairs/1/do/readmit", data=form).text, "and is kept"
    assert "needs a password" in _error(_do(client, "readmit", "mse1"))
    given = {"confirm": "mse1", "password": "words that nobody shows", "minutes": 5}
    ended = _ended(client, client.post("/api/v1/pairs/1/do/readmit", json=given))
    assert ended["sentence"] == "A new machine is waited for, for 5 minutes."
    too_long = client.post("/api/v1/pairs/1/do/readmit", json={**given, "minutes": 5000})
    assert "1 to 1440 minutes" in _error(too_long)
    page = "/pairs/1"
    waits = "mse1 waits for a new machine in place of mse2."
    until(lambda: waits in client.get(page).text, "it is told")
    assert "<code>mse setup --recover-from 10.10.10.11</code>" in client.get(page).text
    assert given["password"] not in client.get(page).text
    told = _pair(client)["newcomer"]
    assert (told["is_waiting"], told["lost"], told["recover_from"]) == (True, "mse2", "10.10.10.11")
    assert "is void at once" in client.get("/pairs/1/do/readmit_cancel").text
    ended = _ended(client, _do(client, "readmit_cancel"))
    assert ended["sentence"] == "mse1 waits no longer for a machine in place of mse2."
    until(lambda: _pair(client)["newcomer"] is None, "nobody is waited for")
    assert waits not in client.get(page).text
    refused = _do(client, "readmit_cancel")
    assert "No new machine is waited for" in (
        _ended(client, refused)["sentence"] if refused.status_code == 202 else _error(refused)
    )
    assert _ended(client, client.post("/api/v1/pairs/1/do/readmit", json=given))["state"] == "done"
    until(lambda: waits in client.get(page).text, "it is waited for again")
    site.take_newcomer("mse2 at 10.10.10.12 takes the place of mse0, which is no party.")
    until(lambda: "mse2 has come." in client.get(page).text, "it has come")
    assert waits not in client.get(page).text
    came = _pair(client)["newcomer"]
    assert (came["is_waiting"], came["name"], came["is_known"]) == (False, "mse2", True)


def _alone(client: Any, site: Site) -> None:
    """The owner boots, nobody answers, and it is told to serve."""
    site.power_off("witness")  # no voter any more, but it would still answer
    with site.lock:
        machine = site.world.machines["mse1"]
        site.world.power_off(machine)
        site.world.power_on(machine)
    until(lambda: _pair(client)["state"] == "WAITING", "it waits", 30)
    assert "switched off or cut off" in client.get("/pairs/1/do/confirm_alone").text
    assert _ended(client, _do(client, "confirm_alone", "mse1"))["state"] == "done"
    until(lambda: _pair(client)["state"] == "PRIMARY_ALONE", "it serves", 30)
