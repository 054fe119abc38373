"""Who gets in, how far, and what is remembered of it: over HTTPS, against the process."""

import contextlib
import csv
import io
import re
import sqlite3
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from stage import ADMIN, SECRET, ConsoleProcess, policy_faults

from openmse.console.app import make_app, make_console
from openmse.console.people import access
from openmse.console.people.secrets import digest
from openmse.console.settings import ConsoleSettings, PathsPart
from openmse.console.store.store import now, open_store

OPEN = {"/login", "/setup/{secret}", "/me/session", "/", "/api/v1/openapi.json", "/static"}


def _user(console: ConsoleProcess, name: str, role: str) -> None:
    with console.logged_in() as client:
        body = {"name": name, "password": SECRET, "role": role}
        assert client.post("/api/v1/users", json=body).status_code in (201, 409)


def test_no_route_is_without_the_gate(tmp_path: object) -> None:
    """Whatever is added later: it needs a role, or stands in the short list of what does not."""
    settings = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path)))
    console = make_console(settings, open_store(settings))
    unguarded = set()
    for route in _routes(make_app(console)):
        dependant = getattr(route, "dependant", None)
        calls = _calls(dependant) if dependant is not None else set()
        if access._principal not in calls:
            unguarded.add(route.path)
    console.store.close()
    assert unguarded <= OPEN


def _routes(app: object) -> list[object]:
    found: list[object] = []
    for route in app.routes:  # type: ignore[attr-defined]
        inner = getattr(route, "original_router", None)
        found += list(inner.routes) if inner is not None else [route]
    assert len([route for route in found if hasattr(route, "dependant")]) > 50
    return found


def _calls(dependant: object) -> set[object]:
    found = {dependant.call}  # type: ignore[attr-defined]
    for inner in dependant.dependencies:  # type: ignore[attr-defined]
        found |= _calls(inner)
    return found


def test_the_set_up_link_works_once(console: ConsoleProcess) -> None:
    """It was used by the fixture."""
    with console.client() as client:
        answer = client.get(console.link)
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert "has been used" in answer.text


@pytest.mark.parametrize("path", ["/login", "/engines", "/nowhere", "/api/v1/engines"])
def test_every_answer_carries_the_policy(console: ConsoleProcess, path: str) -> None:
    """Pages, errors and the API alike; nothing inline, nothing from elsewhere. Every page:
    ``test_console_access.py``."""
    with console.logged_in() as client:
        answer = client.get(path)
    assert not policy_faults(path, answer.headers, answer.text)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "https://" not in re.sub(r"https://localhost:\d+", "", answer.text)


def test_without_a_session_there_is_nothing(console: ConsoleProcess) -> None:
    """Pages lead to the log-in and back; the API says 401."""
    with console.client() as client:
        answer = client.get("/pairs?x=1")
        assert answer.headers["location"] == "/login?next=%2Fpairs%3Fx%3D1"
        assert client.get("/live?topics=pairs:all").status_code == HTTPStatus.UNAUTHORIZED
        assert client.get("/metrics").status_code == HTTPStatus.UNAUTHORIZED
        refused = client.get("/api/v1/engines")
        assert refused.status_code == HTTPStatus.UNAUTHORIZED
        assert refused.json()["error"]["code"] == "MSE-CON-010"
        forged = {"next": "//evil.example/", "name": ADMIN, "password": SECRET}
        assert client.post("/login", data=forged).headers["location"] == "/engines"


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_role_reaches_as_far_as_it_says(console: ConsoleProcess, role: str) -> None:
    """And the refusal says which role is needed."""
    _user(console, f"a-{role}", role)
    with console.logged_in(f"a-{role}") as client:
        assert client.get("/engines").status_code == HTTPStatus.OK
        for method, path in (
            ("GET", "/people"),
            ("GET", "/audit"),
            ("GET", "/engines/new"),
            ("POST", "/people"),
            ("DELETE", f"/api/v1/users/{ADMIN}"),
            ("POST", "/pairs/1/do/takeover"),
            ("POST", "/pairs/1/do/unpair"),
        ):
            answer = client.request(method, path)
            assert answer.status_code == HTTPStatus.FORBIDDEN, path
            assert "administrator" in answer.text or "operator" in answer.text
        moved = client.post("/pairs/1/do/switchover").status_code
        expected = HTTPStatus.FORBIDDEN if role == "viewer" else HTTPStatus.NOT_FOUND
        assert moved == expected


def test_a_change_must_come_from_our_own_page(console: ConsoleProcess) -> None:
    """No token, another session's token, or another origin: nothing is changed."""
    with console.logged_in() as client:
        token = client.headers.pop("X-CSRF-Token")
        form = {"name": "mallory", "password": SECRET, "role": "administrator"}
        attempts: list[tuple[dict[str, str], dict[str, str]]] = [
            (form, {}),
            ({**form, "csrf": ("y" if token[0] == "x" else "x") + token[1:]}, {}),
            ({**form, "csrf": token}, {"Origin": "https://evil.example"}),
            ({**form, "csrf": token}, {"Sec-Fetch-Site": "cross-site"}),
        ]
        for data, headers in attempts:
            answer = client.post("/people", data=data, headers=headers)
            assert answer.status_code == HTTPStatus.FORBIDDEN
        assert "mallory" not in client.get("/people").text
    with console.client() as client:
        login = {"name": ADMIN, "password": SECRET}
        answer = client.post("/login", data=login, headers={"Origin": "https://evil.example"})
        assert answer.status_code == HTTPStatus.FORBIDDEN
        assert "set-cookie" not in answer.headers


def test_after_five_wrong_guesses_even_the_right_one_waits(console: ConsoleProcess) -> None:
    """The name waits; an administrator lifts it with a new password."""
    _user(console, "forgetful", "viewer")
    with console.client() as client:
        for _ in range(5):
            answer = client.post("/login", data={"name": "forgetful", "password": "wrong"})
            assert answer.status_code == HTTPStatus.UNAUTHORIZED
        right = client.post("/login", data={"name": "forgetful", "password": SECRET})
        assert right.status_code == HTTPStatus.TOO_MANY_REQUESTS
    console.stop()  # the address of this test has to wait too: begin anew
    console.start()


def test_tokens_reach_no_further_than_their_role(console: ConsoleProcess) -> None:
    """They need no CSRF token, since no browser sends them by itself; ended ones are nothing."""
    with console.logged_in() as client:
        page = client.post("/me/tokens", data={"name": "graphs", "role": "viewer", "days": "1"})
        found = re.search(r"msec_[\w-]+", page.text)
        assert found is not None
        bearer = {"Authorization": f"Bearer {found[0]}"}
        with console.client(headers=bearer) as program:
            assert program.get("/api/v1/engines").status_code == HTTPStatus.OK
            assert "openmse_console_streams" in program.get("/metrics").text
            assert program.get("/api/v1/users").status_code == HTTPStatus.FORBIDDEN
            assert found[0] not in client.get("/people").text
            number = re.search(r"/tokens/(\d+)/remove", client.get("/people").text)
            assert number is not None
            client.post(f"/tokens/{number[1]}/remove")
            assert program.get("/api/v1/engines").status_code == HTTPStatus.UNAUTHORIZED


def _bearer(made: httpx.Response) -> dict[str, str]:
    assert made.status_code == HTTPStatus.CREATED, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


def test_a_program_makes_tokens_within_its_own_scope(console: ConsoleProcess) -> None:
    """The value is told once; none reaches further or lasts longer than who made it; an ended one
    is nothing, and ends nothing above itself before."""
    path, wish = "/api/v1/tokens", {"name": "deploy", "role": "operator", "days": 7}
    with console.logged_in() as client:
        made = client.post(path, json=wish)
        secret = made.json()["token"]
        assert made.json()["owner"] == ADMIN
        with console.client(headers=_bearer(made)) as program:
            me = program.get("/api/v1/me").json()
            assert (me["kind"], me["user"], me["role"]) == ("token", ADMIN, "operator")
            before = program.get(path).json()
            assert "deploy" in {token["name"] for token in before["tokens"]}
            assert secret not in program.get(path).text + client.get("/me").text
            for change, field in (
                ({"name": " "}, "name"),
                ({"role": "administrator"}, "role"),
                ({"role": "king"}, "role"),
                ({"days": 0}, "days"),
                ({"days": 8}, "days"),
                ({"days": None}, "days"),
            ):
                refused = program.post(path, json={**wish, "days": 6, **change})
                assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
                assert set(refused.json()["error"]["fields"]) == {field}
            assert program.get(path).json() == before
            lesser = {"name": "child", "role": "viewer", "days": 6}
            child = program.post(path, json=lesser)
            with console.client(headers=_bearer(child)) as other:
                above = other.delete(f"{path}/{made.json()['id']}")
                assert above.status_code == HTTPStatus.NOT_FOUND
                everybody = other.get(path, params={"everybody": True})
                assert everybody.status_code == HTTPStatus.FORBIDDEN
                own = other.delete(f"{path}/{child.json()['id']}")
                assert own.status_code == HTTPStatus.NO_CONTENT
                assert other.get("/api/v1/me").status_code == HTTPStatus.UNAUTHORIZED
            assert program.get("/api/v1/me").status_code == HTTPStatus.OK
        assert client.delete(f"{path}/{made.json()['id']}").status_code == HTTPStatus.NO_CONTENT
        assert client.delete(f"{path}/{made.json()['id']}").status_code == HTTPStatus.NOT_FOUND
        entries = client.get("/api/v1/audit", params={"text": "child"}).json()["entries"]
        told = [(e["who"], e["action"], e["target"]) for e in entries]
        assert told == [
            (f"{ADMIN} (token child)", "remove token", "child"),
            (f"{ADMIN} (token deploy)", "add token", "child"),
        ]


def test_a_token_named_like_somebody_is_not_that_person(console: ConsoleProcess) -> None:
    """Whose a token is says its owner, never its name."""
    _user(console, "ben", "viewer")
    path = "/api/v1/tokens"
    with console.logged_in() as admin, console.logged_in("ben") as ben:
        hers = admin.post(path, json={"name": "hers", "role": "viewer"}).json()["id"]
        his = ben.post(path, json={"name": ADMIN, "role": "viewer"})
        too_much = ben.post(path, json={"name": "more", "role": "operator"})
        assert too_much.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        with console.client(headers=_bearer(his)) as program:
            assert [t["owner"] for t in program.get(path).json()["tokens"]] == ["ben"]
            for url in (f"{path}/{hers}", f"{path}/0", f"{path}/{10**40}"):
                assert program.delete(url).status_code == HTTPStatus.NOT_FOUND
            page = program.post(f"/tokens/{hers}/remove")
            assert page.status_code == HTTPStatus.NOT_FOUND
            program.post("/me/preferences", data={"theme": "dark"})
            assert 'data-theme="dark"' in ben.get("/me").text
            assert 'data-theme="dark"' not in admin.get("/me").text
        everybody = admin.get(path, params={"everybody": True}).json()["tokens"]
        assert {"ben", ADMIN} <= {token["owner"] for token in everybody}
        for number in (hers, his.json()["id"]):
            assert admin.delete(f"{path}/{number}").status_code == HTTPStatus.NO_CONTENT


def test_one_s_own_password_by_the_api(console: ConsoleProcess) -> None:
    """The present one is asked for; afterwards every session has ended, and it is noted."""
    _user(console, "renewing", "viewer")
    path, new = "/api/v1/me/password", "an even quieter evening"
    with console.logged_in("renewing") as client:
        for body, field in (
            ({"old_password": "not this one", "password": new}, "old_password"),
            ({"old_password": SECRET, "password": "short"}, "password"),
        ):
            refused = client.put(path, json=body)
            assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
            assert set(refused.json()["error"]["fields"]) == {field}
        body = {"old_password": SECRET, "password": new}
        foreign = client.put(path, json=body, headers={"X-CSRF-Token": "another"})
        assert foreign.status_code == HTTPStatus.FORBIDDEN
        assert client.get("/api/v1/me").json()["name"] == "renewing"
        assert client.put(path, json=body).status_code == HTTPStatus.NO_CONTENT
        assert client.get("/api/v1/me").status_code == HTTPStatus.UNAUTHORIZED
    with console.logged_in("renewing", new) as client:
        assert client.get("/api/v1/users").status_code == HTTPStatus.FORBIDDEN
    with console.logged_in() as client:
        wanted = {"action": "change password", "who": "renewing"}
        assert len(client.get("/api/v1/audit", params=wanted).json()["entries"]) == 1


def test_a_program_changes_people_as_the_page_does(console: ConsoleProcess) -> None:
    """Role, password, shut out and let in again; what is wrong or nothing changes nothing."""
    _user(console, "changed", "viewer")
    path, other = "/api/v1/users/changed", "another quiet evening"
    with console.logged_in() as client:
        for body, status in (
            ({}, 422),
            ({"role": "king"}, 422),
            ({"password": "short"}, 422),
            ({"is_disabled": True}, 204),
            ({"is_disabled": False, "role": "operator", "password": other}, 204),
        ):
            assert client.patch(path, json=body).status_code == status, body
        users = client.get("/api/v1/users").json()["users"]
        (found,) = [user for user in users if user["name"] == "changed"]
        assert (found["role"], found["is_disabled"]) == ("operator", False)
        assert client.patch("/api/v1/users/nobody", json={"role": "viewer"}).status_code == 404
        lowered = client.patch(f"/api/v1/users/{ADMIN}", json={"role": "viewer"})
        assert lowered.status_code == HTTPStatus.CONFLICT
    with console.logged_in("changed", other) as client:
        assert client.get("/api/v1/users").status_code == HTTPStatus.FORBIDDEN


def test_the_last_administrator_stays(console: ConsoleProcess) -> None:
    """Neither removed, nor lowered, nor shut out."""
    with console.logged_in() as client:
        for form in ({"role": "viewer"}, {"disable": "yes"}, {"remove": ADMIN}):
            assert client.post(f"/people/{ADMIN}", data=form).status_code == HTTPStatus.CONFLICT
        assert client.get("/people").status_code == HTTPStatus.OK


def test_the_audit_tells_and_cannot_be_changed(console: ConsoleProcess) -> None:
    """Also not by somebody with the file in hand and SQL."""
    _user(console, "noted", "viewer")
    with console.logged_in() as client:
        entries = client.get("/api/v1/audit").json()["entries"]
        assert ("add user", "noted") in {(e["action"], e["target"]) for e in entries}
        assert SECRET not in client.get("/audit").text
        query = {"action": "add user", "text": "noted"}
        (entry,) = client.get("/api/v1/audit", params=query).json()["entries"]
        file = client.get("/api/v1/audit.csv", params=query)
        (row,) = csv.DictReader(io.StringIO(file.text))
        assert row == {key: str(value) for key, value in entry.items()}
        assert client.get("/api/v1/audit", params={"who": "nobody"}).json() == {"entries": []}
        gone = client.get("/people/nobody/dialog")
        assert gone.status_code == HTTPStatus.NOT_FOUND
    with console.logged_in("noted") as client:
        assert client.get("/api/v1/audit.csv").status_code == HTTPStatus.FORBIDDEN
    with sqlite3.connect(console.root / "state" / "console.db") as connection:
        for statement in ("UPDATE audit SET who = 'x'", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


def test_an_open_page_prolongs_no_session(console: ConsoleProcess) -> None:
    """It asks by itself, also when nobody is there; what a person asks for prolongs it."""
    path = console.root / "state" / "console.db"
    with console.logged_in() as client, contextlib.closing(sqlite3.connect(path)) as store:
        mine = (digest(client.cookies[access.COOKIE]),)
        before = now(-600)

        def used_at() -> str:
            (found,) = store.execute("SELECT used_at FROM sessions WHERE hash = ?", mine).fetchone()
            return str(found)

        with store:
            store.execute("UPDATE sessions SET used_at = ? WHERE hash = ?", (before, *mine))
        with client.stream("GET", "/live?topics=rows:1") as answer:
            assert next(answer.iter_raw())
        assert used_at() == before
        client.get("/engines")
        assert used_at() > before


def test_nobody_chooses_where_a_request_comes_from(console: ConsoleProcess) -> None:
    """Whoever is on the console's machine could evade the lock-out, and lie to the audit."""
    with console.client() as client:
        login = {"name": ADMIN, "password": SECRET}
        client.post("/login", data=login, headers={"X-Forwarded-For": "10.6.6.6"})
    with console.logged_in() as client:
        query = {"action": "log in", "who": ADMIN, "limit": 2}
        entries = client.get("/api/v1/audit", params=query).json()["entries"]
    assert {entry["address"] for entry in entries} == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/broken", "/api/v1/broken"])
async def test_also_a_mistake_of_ours_carries_the_policy(tmp_path: Path, path: str) -> None:
    """It is answered outside of everything else."""
    settings = ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path)))
    console = make_console(settings, open_store(settings))
    app = make_app(console)

    async def broken() -> None:
        raise ZeroDivisionError

    app.add_api_route(path, broken)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
        answer = await client.get(path)
    console.store.close()
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert not policy_faults(path, answer.headers, answer.text)


@pytest.mark.parametrize(
    "path", ["/engines/", "/engines?page=", "/licences?page=", "/audit?before="]
)
def test_a_number_beyond_all_bounds_leads_nowhere(console: ConsoleProcess, path: str) -> None:
    """Told as such; the fixture looks whether the log has it as a mistake of ours."""
    with console.logged_in() as client:
        assert client.get(f"{path}{'9' * 5000}").status_code in (200, 404)
    with console.client() as client:
        assert client.get(f"{path}{'9' * 5000}").status_code == HTTPStatus.SEE_OTHER


def test_a_session_ends_with_the_log_out(console: ConsoleProcess) -> None:
    """The cookie is worth nothing afterwards."""
    with console.logged_in() as client:
        cookies = dict(client.cookies)
        client.post("/logout")
        with console.client(cookies=cookies) as later:
            assert later.get("/me/session").status_code == HTTPStatus.UNAUTHORIZED


def test_wrong_bodies_are_told_field_by_field(console: ConsoleProcess) -> None:
    """The API as the pages: a full sentence, and nothing changed."""
    with console.logged_in() as client:
        answer: httpx.Response = client.post(
            "/api/v1/users", json={"name": "!", "password": "short", "role": "viewer"}
        )
        assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert set(answer.json()["error"]["fields"]) == {"name", "password"}
        unknown = client.post("/api/v1/users", json={"nam": "x"})
        assert unknown.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
