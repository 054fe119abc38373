"""Users, tokens, roles, wrong guesses, and the console that manages an engine."""

import time

import pytest
from api_machine import ADMIN, Machine, Served, until

from openmse.api import guesses
from openmse.api.authentication import Authenticator
from openmse.api.people import Role, Scope

CLAIM = {"id": "console-osaka", "name": "Osaka", "url": "https://10.10.10.13:8443"}
OTHER = {"id": "console-kyoto", "name": "Kyoto", "url": "https://10.10.10.14:8443"}


def test_roles_reach_as_far_as_they_say(served: Served) -> None:
    users = {}
    for role in ("viewer", "operator"):
        served.ok("PUT", f"/v1/users/{role}", json={"role": role, "password": f"{role} password"})
        users[role] = (role, f"{role} password")
    viewer, operator = users["viewer"], users["operator"]
    assert served.ok("GET", "/v1/status", auth=viewer)["node"] == "mse1"
    served.refused("POST", "/v1/ha/switchover", 403, "MSE-API-003", auth=viewer, json={})
    served.refused("POST", "/v1/ha/switchover", 409, "MSE-CMD-001", auth=operator, json={})
    for method, path in (
        ("PATCH", "/v1/ha/settings"),
        ("POST", "/v1/ha/takeover"),
        ("POST", "/v1/node/stop"),
        ("GET", "/v1/users"),
        ("GET", "/v1/audit"),
        ("POST", "/v1/tokens"),
        ("POST", "/v1/console/claim"),
    ):
        error = served.refused(method, path, 403, "MSE-API-003", auth=operator, json={})
        assert "administer" in error["sentence"]


def test_users_come_and_go(served: Served) -> None:
    served.ok("PUT", "/v1/users/eva", json={"role": "viewer", "password": "first password"})
    served.ok("PUT", "/v1/users/eva", json={"role": "operator"})
    users = served.ok("GET", "/v1/users")["users"]
    assert [(user["name"], user["role"]) for user in users] == [
        ("admin", "administrator"),
        ("eva", "operator"),
    ]
    assert "hash" not in users[0]
    body = {"old": "first password", "new": "second password"}
    served.ok("PUT", "/v1/me/password", auth=("eva", "first password"), json=body)
    served.refused("GET", "/v1/me", 401, "MSE-API-002", auth=("eva", "first password"))
    assert served.ok("GET", "/v1/me", auth=("eva", "second password"))["scope"] == "operate"
    served.ok("DELETE", "/v1/users/eva")
    served.refused("GET", "/v1/me", 401, "MSE-API-002", auth=("eva", "second password"))
    served.refused("DELETE", "/v1/users/eva", 404, "MSE-API-010")


def test_the_last_administrator_stays(served: Served) -> None:
    served.refused("DELETE", "/v1/users/admin", 409, "MSE-API-022")
    served.refused("PUT", "/v1/users/admin", 409, "MSE-API-022", json={"role": "viewer"})
    served.ok("PUT", "/v1/users/two", json={"role": "administrator", "password": "password two"})
    served.ok("DELETE", "/v1/users/admin")
    served.refused("GET", "/v1/users", 401, "MSE-API-002")
    assert len(served.ok("GET", "/v1/users", auth=("two", "password two"))["users"]) == 1


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("new", {"role": "viewer"}, 400, "MSE-USE-001"),
        ("new", {"password": "long enough"}, 400, "MSE-USE-001"),
        ("new", {}, 400, "MSE-USE-001"),
        ("new", {"role": "viewer", "password": "short"}, 400, "MSE-USE-001"),
        ("new", {"role": "god", "password": "long enough"}, 422, "MSE-API-015"),
        ("-", {"role": "viewer", "password": "long enough"}, 400, "MSE-USE-001"),
        ("a%20b", {"role": "viewer", "password": "long enough"}, 400, "MSE-USE-001"),
    ],
)
def test_users_that_cannot_be(
    shared: Served, name: str, body: dict[str, str], status: int, code: str
) -> None:
    shared.refused("PUT", f"/v1/users/{name}", status, code, json=body)
    assert len(shared.ok("GET", "/v1/users")["users"]) == 1


def test_a_command_beside_it_is_heard_at_once(served: Served) -> None:
    served.machine.people.set_user("eva", Role.VIEWER, "from the command line")
    assert served.ok("GET", "/v1/me", auth=("eva", "from the command line"))["name"] == "eva"
    served.machine.people.remove_user("eva")
    served.refused("GET", "/v1/me", 401, "MSE-API-002", auth=("eva", "from the command line"))


def test_tokens_have_a_scope_and_an_end(served: Served) -> None:
    made = served.ok("POST", "/v1/tokens", json={"name": "grafana", "expires_in_days": 1})
    token = made["token"]
    assert served.ok("GET", "/v1/me", token=token) == {
        "kind": "token",
        "name": "grafana",
        "scope": "read",
        "token_id": made["id"],
    }
    assert served.ask("GET", "/metrics", token=token).status_code == 200
    served.refused("POST", "/v1/ha/failback", 403, "MSE-API-003", token=token, json={})
    listed = served.ok("GET", "/v1/tokens")["tokens"]
    assert [(one["id"], one["created_by"]) for one in listed] == [(made["id"], "user admin")]
    assert token not in str(listed)
    served.ok("DELETE", f"/v1/tokens/{made['id']}")
    served.refused("GET", "/v1/me", 401, "MSE-API-002", token=token)
    served.refused("DELETE", f"/v1/tokens/{made['id']}", 404, "MSE-API-010")


def test_a_token_for_operating(served: Served) -> None:
    token = served.ok("POST", "/v1/tokens", json={"name": "t", "scope": "operate"})["token"]
    served.ok("POST", "/v1/ha/maintenance", token=token, json={"is_on": True})
    assert served.ok("GET", "/v1/audit")["entries"][0]["who"] == "token t"


def test_a_token_ends_with_the_user_who_made_it(served: Served) -> None:
    """And reaches no further than he may: also one that was made with a token of his."""
    password = "password of eva"
    served.ok("PUT", "/v1/users/eva", json={"role": "administrator", "password": password})
    wish = {"name": "deploy", "scope": "administer"}
    made = served.ok("POST", "/v1/tokens", auth=("eva", password), json=wish)
    child = served.ok("POST", "/v1/tokens", token=made["token"], json={**wish, "name": "child"})
    told = {one["name"]: one["created_by"] for one in served.ok("GET", "/v1/tokens")["tokens"]}
    assert told == {"deploy": "user eva", "child": "user eva (token deploy)"}
    roots = served.machine.people.make_token("root's", Scope.READ, "mse admin", None)
    served.ok("PUT", "/v1/users/eva", json={"role": "operator"})
    for each in (made, child):
        assert served.ok("GET", "/v1/me", token=each["token"])["scope"] == "operate"
        served.refused("GET", "/v1/users", 403, "MSE-API-003", token=each["token"])
    served.ok("DELETE", "/v1/users/eva")
    again = {"role": "administrator", "password": "another eva"}
    served.ok("PUT", "/v1/users/eva", json=again)
    for each in (made, child):
        served.refused("GET", "/v1/me", 401, "MSE-API-002", token=each["token"])
    assert served.ok("GET", "/v1/me", token=roots.text)["scope"] == "read"


# -- wrong guesses --------------------------------------------------------------------------


def test_wrong_guesses_are_refused_longer_and_longer(served: Served) -> None:
    wrong = (ADMIN[0], "not the password")
    for _ in range(guesses.ADDRESS_FREE):
        served.refused("GET", "/v1/me", 401, "MSE-API-002", auth=wrong)
    assert served.context is not None
    memory = served.context.authenticator.guesses
    for _ in range(5):  # as if they went on, so that the wait outlasts this test
        memory.wrong("127.0.0.1", ADMIN[0], time.monotonic())
    locked = served.ask("GET", "/v1/me")  # the right password
    assert locked.status_code == 429
    assert 10 < int(locked.headers["retry-after"]) <= 32
    assert locked.json()["error"]["code"] == "MSE-API-004"
    memory.right("127.0.0.1", ADMIN[0])
    until(lambda: served.ok("GET", "/v1/audit")["entries"], "it is audited")
    entry = served.ok("GET", "/v1/audit")["entries"][0]
    assert (entry["action"], entry["result"], entry["who"]) == ("log_in", "refused", "user admin")


def test_guesses_beside_it_do_not_cut_a_right_token_off(served: Served) -> None:
    """Nor does a program whose token has ended keep out who comes to give it another."""
    token = served.ok("POST", "/v1/tokens", json={"name": "t"})["token"]
    assert served.context is not None
    memory, now_s = served.context.authenticator.guesses, time.monotonic()
    for _ in range(guesses.ADDRESS_FREE + 6):
        memory.wrong("127.0.0.1", "", now_s)
    ended = "mse_0123456789ab_" + "A" * 43
    served.refused("GET", "/v1/me", 429, "MSE-API-004", token=ended)
    assert served.ok("GET", "/v1/me")["name"] == "admin"
    for _ in range(guesses.ADDRESS_FREE + 6):
        memory.wrong("127.0.0.1", "somebody", now_s)
    served.refused("GET", "/v1/me", 429, "MSE-API-004")
    assert served.ok("GET", "/v1/me", token=token)["name"] == "t"
    assert memory.refused_s("127.0.0.1", "somebody", now_s) > 0, "it says nothing of passwords"


def test_a_stranger_s_name_is_no_command_to_a_terminal(served: Served) -> None:
    """It is printed there by 'mse admin audit'."""
    for _ in range(guesses.ADDRESS_FREE):
        served.ask("GET", "/v1/me", auth=("a\x1b]0;b\x07c", "x"))
    assert served.context is not None
    served.context.authenticator.guesses.right("127.0.0.1", ADMIN[0])
    until(lambda: served.ok("GET", "/v1/audit")["entries"], "it is audited")
    assert served.ok("GET", "/v1/audit")["entries"][0]["who"] == "user a?]0;b?c"


def test_wrong_tokens_count_too(served: Served) -> None:
    token = "mse_0123456789ab_" + "A" * 43
    served.refused("GET", "/v1/me", 401, "MSE-API-002", token=token)
    assert served.context is not None
    memory = served.context.authenticator.guesses
    for _ in range(guesses.ADDRESS_FREE + 4):
        memory.wrong("127.0.0.1", "", time.monotonic())
    served.refused("GET", "/v1/me", 429, "MSE-API-004", token=token)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic YWRtaW4=",
        "Basic /////w==",
        "Bearer",
        "Digest x=y",
        "Bearer " + "x" * 5000,
        "Bearer mse_x_y",
    ],
)
def test_credentials_that_are_none(served: Served, header: str) -> None:
    headers = {"Authorization": header}
    found = served.ask("GET", "/v1/me", auth=None, headers=headers)
    assert found.status_code == 401
    assert "Basic" in found.headers["www-authenticate"]


async def test_a_right_password_is_remembered_a_while(machine: Machine) -> None:
    from api_machine import basic

    authenticator = Authenticator(machine.people)
    header = basic(*ADMIN)
    first = await authenticator.principal(header, "10.0.0.1")
    again = await authenticator.principal(header, "10.0.0.1")
    assert first == again
    assert len(authenticator._remembered) == 1
    machine.people.set_user("admin", None, "a new password")
    with pytest.raises(Exception, match="wrong"):
        await authenticator.principal(header, "10.0.0.1")


# -- the console ----------------------------------------------------------------------------


def test_a_console_claims_and_works_with_its_token(served: Served) -> None:
    assert served.ok("GET", "/v1/console") == {"console": None, "is_you": False}
    claimed = served.ok("POST", "/v1/console/claim", json=CLAIM)
    token = claimed["token"]
    me = served.ok("GET", "/v1/me", token=token)
    assert (me["kind"], me["name"], me["scope"]) == ("console", "Osaka", "administer")
    told = served.ok("GET", "/v1/console", token=token)
    assert told["is_you"]
    assert told["console"]["claimed_by"] == "user admin"
    assert "token" not in told["console"]
    served.ok("POST", "/v1/ha/maintenance", token=token, json={"is_on": True})
    assert served.ok("GET", "/v1/summary")["console_id"] == CLAIM["id"]
    assert [one["is_console"] for one in served.ok("GET", "/v1/tokens")["tokens"]] == [True]


def test_a_second_console_is_told(served: Served) -> None:
    token = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    error = served.refused("POST", "/v1/console/claim", 409, "MSE-API-020", json=OTHER)
    assert "'Osaka' (https://10.10.10.13:8443)" in error["sentence"]
    assert served.ok("GET", "/v1/console", token=token)["is_you"]
    own = served.refused("POST", "/v1/console/claim", 403, "MSE-API-003", token=token, json=OTHER)
    assert "for that console only" in own["sentence"]


def test_a_claim_by_force_tells_the_first(served: Served) -> None:
    first = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    body = {**OTHER, "force": True, "confirm": "mse2"}
    served.refused("POST", "/v1/console/claim", 400, "MSE-USE-001", json=body)
    assert served.ok("GET", "/v1/me", token=first)["name"] == "Osaka"
    body = {**OTHER, "force": True, "confirm": "mse1"}
    second = served.ok("POST", "/v1/console/claim", json=body)["token"]
    error = served.refused("GET", "/v1/status", 403, "MSE-API-005", token=first)
    assert "'Kyoto' (https://10.10.10.14:8443)" in error["sentence"]
    assert served.ok("GET", "/v1/console", token=second)["is_you"]
    served.ok("POST", "/v1/console/release", token=second, json={})
    error = served.refused("GET", "/v1/status", 403, "MSE-API-005", token=first)
    assert "has released it" in error["sentence"]


def test_claiming_again_ends_the_earlier_token(served: Served) -> None:
    first = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    second = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    served.refused("GET", "/v1/me", 401, "MSE-API-002", token=first)
    assert served.ok("GET", "/v1/me", token=second)["name"] == "Osaka"


def test_a_released_engine_can_be_claimed(served: Served) -> None:
    token = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    served.ok("POST", "/v1/console/release", token=token, json={})
    served.refused("GET", "/v1/me", 401, "MSE-API-002", token=token)
    served.ok("POST", "/v1/console/claim", json=OTHER)


def test_a_claim_survives_a_restart(machine: Machine) -> None:
    with machine.serve() as served:
        token = served.ok("POST", "/v1/console/claim", json=CLAIM)["token"]
    with machine.serve() as served:
        assert served.ok("GET", "/v1/console", token=token)["is_you"]
        served.refused("POST", "/v1/console/claim", 409, "MSE-API-020", json=OTHER)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "short"}, "id"),
        ({"id": "no spaces here"}, "id"),
        ({"name": "line\nbreak"}, "name"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"force": 1}, "force"),
    ],
)
def test_claims_that_cannot_be(shared: Served, change: dict[str, object], field: str) -> None:
    body = {**CLAIM, **change}
    error = shared.refused("POST", "/v1/console/claim", 422, "MSE-API-015", json=body)
    assert [fault["field"] for fault in error["fields"]] == [field]
