"""Licences through the console: pages, wizards and API, against real engines' licences."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_machine import Served
from issuer import Issuer, be_machine
from live_pair import PASSWORD, NodeFiles, Site, until
from stage import SECRET, ConsoleProcess

from openmse.node.config import Places
from openmse.platform.services import ServiceFacts
from openmse.platform.steps import Choice, FieldKind, OfferedStep, StepField

BIG = 3 << 20


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[Site]:
    """Two engines that are no pair yet."""
    with Site(root, is_paired=False).serving() as found:
        yield found


@pytest.fixture(scope="module")
def issuer(root: Path, site: Site) -> Issuer:
    """The deployment's key, which both engines trust."""
    made = Issuer(root / "issuer")
    for node in site.nodes.values():
        made.trusted_by(node.config)
    return made


def _id(client: Any, name: str) -> int:
    found = client.get("/api/v1/engines").json()["engines"]
    return int(next((engine["id"] for engine in found if engine["name"] == name), 0))


def _mse1(console: ConsoleProcess, site: Site, client: Any) -> tuple[int, dict[str, Any]]:
    """mse1 in this console, without any licence; its id and what is licensed."""
    if not _id(client, "mse1"):
        console.add(site, "mse1")
    number = _id(client, "mse1")
    path = f"/api/v1/engines/{number}/licences"
    for one in client.get(path).json()["licences"]:
        assert client.delete(f"{path}/{one['id']}").status_code == 200
    return number, client.get(path).json()


def _limit(client: Any, number: int, kind: str = "elements") -> int:
    rows = client.get(f"/api/v1/engines/{number}/licences").json()["limits"]
    return int(next(row["limit"] for row in rows if row["kind"] == kind))


def _upload(client: Any, path: str, data: bytes) -> Any:
    return client.post(path, files={"file": ("x.licence", data)})


def test_from_a_file_to_a_limit_and_back(
    site: Site, console: ConsoleProcess, issuer: Issuer
) -> None:
    """Pages and API tell the same: who, what, for how long; removing says what falls."""
    with console.logged_in() as client:
        number, told = _mse1(console, site, client)
        assert (told["is_activation_needed"], told["is_activated"]) == (True, False)
        page = f"/engines/{number}/licences"
        empty = client.get(page).text
        assert "No licence is installed: the built-in limits hold." in empty
        assert told["udi"] in empty
        assert "Not activated" in client.get("/licences").text
        udi = told["udi"]
        active = _upload(client, page, issuer.text(udi, "activation").encode())
        assert active.status_code == 200
        assert "is installed: activation" in active.text
        for kind, quantity, more in (
            ("elements", 2000, {}),
            ("wips-monitor-mode-aps", 5, {"type": "evaluation", "days": 12}),
        ):
            body = {"text": issuer.text(udi, kind, quantity, **more)}
            done = client.post(f"/api/v1{page}", json=body)
            assert done.status_code == 201, done.text
            assert str(quantity) in done.json()["sentence"]
        assert _limit(client, number) == 2100
        shown = client.get(page).text
        assert "12 days left" in shown
        assert "anna (console console)" in shown
        row = next(
            e for e in client.get("/api/v1/licences").json()["engines"] if e["name"] == "mse1"
        )
        assert (row["activation"], row["next_days"], row["trouble"]) == ("Activated", 12, "ending")
        assert row["limits"]["elements"] == 2100
        found = client.get(f"/api/v1{page}").json()["licences"]
        first = next(one["id"] for one in found if one["kind"] == "activation")
        dialog = client.get(f"{page}/{first}/remove").text
        assert "the limit falls from 2,100 to 100" in dialog
        assert "2 other licences stop counting" in dialog
        removed = client.post(f"{page}/{first}/remove")
        assert "is removed" in removed.text
        assert _limit(client, number) == 100
        assert "a licence waits for it" in client.get("/licences?show=attention").text
        audit = client.get("/api/v1/audit").json()["entries"]
        did = {(e["action"], e["outcome"]) for e in audit if e["target"] == "mse1"}
        assert {("install licence", "done"), ("remove licence", "done")} <= did


def test_each_refusal_says_what_is_wrong(
    site: Site, console: ConsoleProcess, issuer: Issuer, root: Path
) -> None:
    """And nothing has changed."""
    with console.logged_in() as client:
        number, told = _mse1(console, site, client)
        udi, page = told["udi"], f"/engines/{number}/licences"
        good = issuer.text(udi, "activation")
        assert client.post(f"/api/v1{page}", json={"text": good}).status_code == 201
        stranger = Issuer(root / f"stranger{number}")
        ended = issuer.text(udi, "elements", 7, type="evaluation", days=3)
        _had_once(site.nodes["mse1"], ended)
        before = client.get(f"/api/v1{page}").json()
        for data, code, words in (
            (b"", "MSE-CON-024", "The file is empty"),
            (b"x" * 20_000, "MSE-CON-024", "20,000 bytes; a licence has 16,384 at most"),
            (b"\xff\xfe", "MSE-CON-024", "not text"),
            (b"hello", "MSE-LIC-001", "its first line is not"),
            (good.replace("City", "Town").encode(), "MSE-LIC-002", "was changed after it was sig"),
            (stranger.text(udi, "elements", 9).encode(), "MSE-LIC-002", "does not trust"),
            (good.encode(), "MSE-LIC-003", "is installed already"),
            (issuer.text(udi[:-1] + "f", "elements", 9).encode(), "MSE-LIC-003", "bound to engine"),
            (
                issuer.text("AIR-MSE-3355-K9:V01:KQ37", "elements", 9).encode(),
                "MSE-LIC-003",
                "for an engine of the type AIR-MSE-3355-K9",
            ),
            (ended.encode(), "MSE-LIC-003", "and ended on 2020-01-03"),
        ):
            answer = _upload(client, page, data)
            assert answer.status_code in (409, 422), words
            problem = re.search(r'class="problem".*?</div>', answer.text, re.DOTALL)
            assert problem is not None, words
            assert words in problem[0].replace("&#39;", "'"), problem[0]
            assert code in problem[0]
        assert "No file was chosen" in client.post(page, files={"other": ("x", b"y")}).text
        large = _upload(client, page, b"x" * BIG)
        assert large.status_code == 413
        assert "1 MiB" in large.text
        gone = client.delete(f"/api/v1{page}/0123456789abcdef")
        assert gone.json()["error"]["code"] == "MSE-LIC-003"
        assert client.get(f"/api/v1{page}").json() == before


def _had_once(node: NodeFiles, text: str) -> None:
    """An evaluation that was installed long ago, and removed."""
    path = node.state / "licences" / "ledger.json"
    ledger = json.loads(path.read_text())
    identity = re.search(r"Licence: (\w+)", text)
    assert identity is not None
    ledger["lines"][identity[1]] = {
        "first_installed": "2020-01-01",
        "is_removed": True,
        "changed_at": "2020-01-05T00:00:00.000+00:00",
    }
    path.write_text(json.dumps(ledger))


def test_viewers_look_and_administrators_change(
    site: Site, console: ConsoleProcess, issuer: Issuer
) -> None:
    """The API as the pages."""
    with console.logged_in() as client:
        number, told = _mse1(console, site, client)
        text = issuer.text(told["udi"], "activation")
        for role in ("viewer", "operator"):
            body = {"name": f"l-{role}", "password": SECRET, "role": role}
            assert client.post("/api/v1/users", json=body).status_code == 201
    for role in ("viewer", "operator"):
        with console.logged_in(f"l-{role}") as client:
            page = client.get(f"/engines/{number}/licences").text
            assert "Only administrators install and remove licences." in page
            assert 'type="file"' not in page
            assert client.get("/licences").status_code == 200
            base = f"/api/v1/engines/{number}/licences"
            assert client.get(base).json()["licences"] == []
            assert client.get("/api/v1/licences").json()["count"] >= 1
            refused = [
                client.post(base, json={"text": text}),
                client.delete(f"{base}/0123456789abcdef"),
                client.post(f"{base}/share"),
                _upload(client, f"/engines/{number}/licences", text.encode()),
                client.post(f"/engines/{number}/stop"),
                client.post(f"/api/v1/engines/{number}/stop", json={"confirm": "mse1"}),
                client.get("/pairs/1/witness"),
            ]
            assert {answer.status_code for answer in refused} == {403}


def _wizard(client: Any, site: Site, name: str) -> Any:
    """The add wizard up to the claim; the page after it."""
    at = client.get("/engines/new").url.path.rpartition("/")[0]
    form = {"name": name, "address": "127.0.0.1", "port": str(site.nodes[name].port)}
    assert client.post(f"{at}/connect", data=form).url.path == f"{at}/trust"
    seen = {"confirmed": site.nodes[name].serve_fingerprint()}
    assert client.post(f"{at}/trust", data=seen).url.path == f"{at}/claim"
    return client.post(f"{at}/claim", data={"user": "admin", "password": PASSWORD})


def test_the_wizard_offers_licences_and_stops_nobody(
    site: Site, console: ConsoleProcess, issuer: Issuer
) -> None:
    """Its steps are the engine's offers; where licensing is off it says so."""
    state = site.nodes["mse1"].state
    with console.logged_in() as client:
        number, told = _mse1(console, site, client)
        client.delete(f"/api/v1/engines/{number}")
        claimed = _wizard(client, site, "mse1")
        step = claimed.url.path
        assert step.endswith("/licensing")
        assert "No licence is needed to go on" in claimed.text
        assert client.get(step.replace("licensing", "claim")).url.path == step
        wrong = _upload(client, step, b"hello")
        assert "its first line is not" in wrong.text.replace("&#39;", "'")
        done = _upload(client, step, issuer.text(told["udi"], "activation").encode())
        assert "is installed: activation" in done.text
        assert "1 licence is installed." in done.text
        finished = client.get(step.replace("licensing", "done")).text
        assert "mse1 is managed by this console now" in finished
        client.delete(f"/api/v1/engines/{_id(client, 'mse1')}")
        be_machine(state, "VA-Standard", is_licensing_on=False)
        try:
            off = _wizard(client, site, "mse1")
            assert off.url.path.endswith("/done")
            assert "Licensing is switched off on this engine" in off.text
            page = client.get(f"/engines/{_id(client, 'mse1')}/licences").text
            assert "Licensing is switched off on this engine" in page
            assert "Licensing off" in client.get("/licences").text
        finally:
            be_machine(state, "VA-Standard")


class _Asking(ServiceFacts):
    """A part of the product that asks for something, and a step that no console knows."""

    def steps(self, places: Places) -> tuple[OfferedStep, ...]:
        """Sent to a call that every engine has."""
        kinds = tuple(Choice(value=one, title=one) for one in ("automatic", "manual"))
        fields = (
            StepField(
                name="failover_wait_s",
                title="Wait <s>",
                kind=FieldKind.NUMBER,
                value=2.0,
                is_required=True,
            ),
            StepField(name="failback_type", title="Way back", kind=FieldKind.CHOICE, choices=kinds),
            StepField(name="is_experimental", title="Try", kind=FieldKind.SWITCH, value=False),
        )
        known = OfferedStep(
            key="tracking", title="100 % tracked", path="/v1/ha/settings", fields=fields
        )
        return (known, msgspec.structs.replace(known, key="far", path="/v1/../elsewhere"))


@pytest.mark.timeout(120)
def test_a_step_that_the_engine_describes(
    site: Site, console: ConsoleProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown, checked, sent and noted, without this console knowing what it is about."""
    monkeypatch.setattr("openmse.api.info.service_facts", _Asking)
    with console.logged_in() as client:
        number, _ = _mse1(console, site, client)
        client.delete(f"/api/v1/engines/{number}")
        licensing = str(_wizard(client, site, "mse1").url.path)
        number = _id(client, "mse1")
        step = licensing.replace("licensing", "tracking")
        assert f'href="{step}"' in client.get(licensing).text
        page = client.get(step).text
        for told in ("100 % tracked", "Wait &lt;s&gt;", 'value="2"', "Way back", "Skip"):
            assert told in page, told
        assert "elsewhere" not in page
        wait = "field-failover_wait_s"
        assert "This is needed." in client.post(step, data={wait: ""}).text
        assert client.post(step, data={wait: "soon"}).status_code == 422
        wrong = client.post(step, data={wait: "0.1"})
        assert wrong.status_code == 409
        assert 'value="0.1"' in wrong.text
        done = client.post(step, data={wait: "2.5", "field-failback_type": "automatic"})
        assert str(done.url.path).endswith("/done")
        node = Served(site.nodes["mse1"], site.nodes["mse1"].port)
        settings = node.ok("GET", "/v1/ha/settings")
        assert (settings["failover_wait_s"], settings["failback_type"]) == (2.5, "automatic")
        _by_a_program(client, number, node)
        noted = client.get("/api/v1/audit", params={"action": "change settings"}).json()["entries"]
        assert [one["outcome"] for one in noted[:3]] == ["done", "done", "refused"]
        assert noted[0]["detail"] == "100 % tracked"
        history = client.get(f"/api/v1/engines/{number}/synchronizations").json()
        assert "100 % tracked" in history["synchronizations"][0]["sentence"]


def _by_a_program(client: Any, number: int, node: Served) -> None:
    path = f"/api/v1/engines/{number}/steps"
    (described,) = client.get(path).json()["steps"]
    assert [one["kind"] for one in described["fields"]] == ["number", "choice", "switch"]
    for values, field in (
        ({"failover_wait_s": "soon"}, "failover_wait_s"),
        ({"failover_wait_s": 2, "failback_type": "perhaps"}, "failback_type"),
        ({"failover_wait_s": 2, "other": 1}, "other"),
    ):
        refused = client.post(f"{path}/tracking", json={"values": values})
        assert (refused.status_code, set(refused.json()["error"]["fields"])) == (422, {field})
    assert client.post(f"{path}/far", json={"values": {}}).status_code == 404
    values = {"failover_wait_s": 2, "failback_type": "manual", "is_experimental": False}
    assert client.post(f"{path}/tracking", json={"values": values}).status_code == 200
    assert node.ok("GET", "/v1/ha/settings")["failback_type"] == "manual"


def _to_the_claim(client: Any, site: Site, number: int) -> str:
    """The pairing wizard with mse2, which is new here, up to the log-in there."""
    at = str(client.get(f"/engines/{number}/pair").url.path).rpartition("/")[0]
    node = site.nodes["mse2"]
    form = {"known_id": "", "name": "mse2", "address": "127.0.0.1", "port": str(node.port)}
    client.post(f"{at}/secondary", data=form)
    seen = {"confirmed": node.serve_fingerprint()}
    assert client.post(f"{at}/trust", data=seen).url.path == f"{at}/claim"
    return at


@pytest.mark.timeout(120)
def test_pairing_asks_the_matrix_and_for_the_activation(
    site: Site, console: ConsoleProcess, issuer: Issuer
) -> None:
    """Refused before anything is changed; an unlicensed secondary may be activated, or not."""
    account = {"user": "admin", "password": PASSWORD}
    state = site.nodes["mse2"].state
    with console.logged_in() as client:
        number, _ = _mse1(console, site, client)
        at = _to_the_claim(client, site, number)
        be_machine(state, "VA-Low")
        refused = client.post(f"{at}/claim", data=account)
        assert refused.status_code == 409
        assert "A VA-Low does not back a VA-Standard" in refused.text
        assert "Nothing was changed." in refused.text
        assert _id(client, "mse2") == 0
        be_machine(state, "VA-High")
        step = client.post(f"{at}/claim", data=account)
        assert step.url.path == f"{at}/activation"
        for words in ("Secondary platform UDI", "Secondary activation status", "Not activated"):
            assert words in step.text
        assert "Continue without activation" in step.text
        second = _id(client, "mse2")
        udi = client.get(f"/api/v1/engines/{second}/licences").json()["udi"]
        again = _upload(client, step.url.path, issuer.text(udi, "activation").encode())
        assert "Delete secondary activation license" in again.text
        assert "Continue without" not in again.text

        be_machine(state, "3310")
        body = {"primary_id": number, "secondary_id": second, "settings": {}}
        matrix = client.post("/api/v1/pairs", json=body)
        assert matrix.status_code == 409
        assert matrix.json()["error"]["code"] == "MSE-PLT-003", matrix.text
        assert "A 3310 does not back a VA-Standard" in matrix.json()["error"]["sentence"]
        form = {"failover_wait_s": "2", "witness": "none"}
        assert "does not back" in client.post(f"{at}/pair", data=form).text
        be_machine(state, "VA-High")
        action = client.post(f"{at}/pair", data=form).url.path
        assert action.startswith("/actions/")
        path = f"/api/v1{action}"
        until(lambda: client.get(path).json()["state"] != "running", "the pair is made", 60)
        ended = client.get(path).json()
        assert ended["state"] == "done", ended
        assert "whichever owns" in client.get(f"/engines/{number}/licences").text
