"""Licences through the management API: real keys, real files, the limits that follow."""

from pathlib import Path
from typing import Any

import pytest
from api_machine import Machine, Served, until
from click.testing import CliRunner

from openmse.api.licence_watch import mark
from openmse.cli.main import root


class Issuer:
    """Whoever runs the deployment: a key of their own, which the machine trusts."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        (machine.root / "platform.toml").write_text('[platform]\nmachine = "VA-Standard"\n')
        self.key = machine.root / "deployment.key"
        self.mse("license", "keygen", str(self.key))
        keys = machine.root / "licence-keys"
        keys.mkdir()
        (keys / "d.pub").write_bytes(self.key.with_name("deployment.key.pub").read_bytes())

    def mse(self, *words: str) -> None:
        """A command on the machine."""
        done = CliRunner().invoke(root, ["--config", str(self.machine.config), *words])
        assert done.exit_code == 0, done.output

    def text(self, udi: str, kind: str, quantity: int = 0) -> str:
        """A signed licence."""
        path = Path(self.machine.root / f"{kind}-{quantity}-{udi[-4:]}.licence")
        words = ["--udi", udi, "--kind", kind, "--issued-to", "A", "--issued-by", "B"]
        words += ["--quantity", str(quantity)] if quantity else []
        self.mse("license", "issue", "--key", str(self.key), *words, "--out", str(path))
        return path.read_text()


@pytest.fixture
def issuer(machine: Machine) -> Issuer:
    return Issuer(machine)


def elements(told: dict[str, Any]) -> int:
    return int(next(row["limit"] for row in told["limits"] if row["kind"] == "elements"))


def test_from_a_text_to_a_limit_and_back(issuer: Issuer) -> None:
    with issuer.machine.monitor(), issuer.machine.serve() as served:
        told = served.ok("GET", "/v1/licences")
        assert (told["is_activation_needed"], told["is_activated"]) == (True, False)
        assert elements(told) == 100
        udi = served.ok("GET", "/v1/info")["udi"]
        assert told["udi"] == udi
        more = {"text": issuer.text(udi, "elements", 2000)}
        refused = served.refused("POST", "/v1/licences", 409, "MSE-LIC-003", json=more)
        assert "not activated" in refused["sentence"]
        served.ok("POST", "/v1/licences", json={"text": issuer.text(udi, "activation")})
        done = served.ok("POST", "/v1/licences", json=more)
        assert "2000 elements" in done["sentence"]
        assert "not paired" in done["exchange"]
        assert elements(served.ok("GET", "/v1/licences")) == 2100
        served.refused("POST", "/v1/licences", 409, "MSE-LIC-003", json=more)
        served.ok("DELETE", f"/v1/licences/{done['licence']['id']}")
        assert elements(served.ok("GET", "/v1/licences")) == 100
        assert served.ok("POST", "/v1/licences/sync", json={})["is_shared"]
        actions = [(e["action"], e["result"]) for e in served.ok("GET", "/v1/audit")["entries"]]
        assert ("licence_install", "done") in actions
        assert ("licence_install", "refused") in actions
        assert ("licence_remove", "done") in actions


def test_what_is_no_licence_for_this_engine(issuer: Issuer) -> None:
    with issuer.machine.serve() as served:
        udi = served.ok("GET", "/v1/info")["udi"]
        good = issuer.text(udi, "activation")
        other = issuer.text("AIR-MSE-VA-K9:V01:other_1", "activation")
        for text, status, code in (
            ("hello", 400, "MSE-LIC-001"),
            (good.replace("Issued to: A", "Issued to: C"), 409, "MSE-LIC-002"),
            (other, 409, "MSE-LIC-003"),
        ):
            served.refused("POST", "/v1/licences", status, code, json={"text": text})
        served.refused("DELETE", "/v1/licences/0123456789abcdef", 409, "MSE-LIC-003")
        body = {"text": "x" * 60_000}
        served.refused("POST", "/v1/licences", 422, "MSE-API-015", json=body)
        assert served.ok("GET", "/v1/licences")["licences"] == []


def test_who_installed_it_is_told(issuer: Issuer) -> None:
    """The caller, and the person for whom a console asks; in the audit as well."""
    with issuer.machine.serve() as served:
        udi = served.ok("GET", "/v1/info")["udi"]
        body = {"text": issuer.text(udi, "activation"), "on_behalf_of": "anna"}
        done = served.ok("POST", "/v1/licences", json=body)
        (one,) = served.ok("GET", "/v1/licences")["licences"]
        assert one["installed_by"] == "anna (user admin)"
        served.ok("DELETE", f"/v1/licences/{done['licence']['id']}?on_behalf_of=ben")
        told = {e["args"]["by"] for e in served.ok("GET", "/v1/audit")["entries"]}
        assert told == {"anna (user admin)", "ben (user admin)"}
        refused = {"text": "x", "on_behalf_of": "a\nb"}
        served.refused("POST", "/v1/licences", 422, "MSE-API-015", json=refused)


def test_a_console_is_told_what_the_matrix_asks_for(issuer: Issuer) -> None:
    """Which machine it is, by the name of the catalogue."""
    with issuer.machine.serve() as served:
        info = served.ok("GET", "/v1/info")
    assert (info["machine_kind"], info["is_virtual"]) == ("VA-Standard", True)


def test_only_administrators_change_licences(issuer: Issuer) -> None:
    with issuer.machine.serve() as served:
        token = served.ok("POST", "/v1/tokens", json={"name": "t", "scope": "operate"})["token"]
        assert served.ok("GET", "/v1/licences", token=token)["licences"] == []
        for method, path in (("POST", ""), ("POST", "/sync"), ("DELETE", "/x")):
            served.refused(method, f"/v1/licences{path}", 403, "MSE-API-003", token=token)


def test_readers_hear_when_they_are_to_be_read_anew(issuer: Issuer) -> None:
    """At once how they stand, then each change, whoever made it; the same again is not told."""
    with issuer.machine.serve() as served:
        udi = served.ok("GET", "/v1/licences")["udi"]  # a first look writes down the day
        path = issuer.machine.root / "by-hand.licence"
        path.write_text(issuer.text(udi, "activation"))
        with served.stream("?view=summary") as stream:
            first = stream.until("licences")
            assert first["as_of"] == served.ok("GET", "/v1/licences")["as_of"]
            issuer.mse("license", "install", str(path))
            second = stream.until("licences")
            assert second["mark"] != first["mark"]
            (one,) = served.ok("GET", "/v1/licences")["licences"]
            served.ok("DELETE", f"/v1/licences/{one['licence']['id']}")
            assert stream.until("licences")["mark"] not in (first["mark"], second["mark"])
        # A look amid the removal, between its two files, is followed by another one.
        until(lambda: told_at_first(served) == read_mark(issuer), "it is told as it is")


def told_at_first(served: Served) -> Any:
    with served.stream() as stream:
        return stream.until("licences")


def read_mark(issuer: Issuer) -> dict[str, str]:
    found = mark(issuer.machine.config, issuer.machine.state)
    return {"mark": found.mark, "as_of": found.as_of.isoformat()}


def test_what_is_half_written_is_no_change(machine: Machine) -> None:
    before = mark(machine.config, machine.state)
    (machine.state / "licences").mkdir()
    (machine.state / "licences" / ".x.licence.new").write_bytes(b"half")
    assert mark(machine.config, machine.state) == before
    (machine.state / "licences" / "x.licence").write_bytes(b"whole")
    assert mark(machine.config, machine.state) != before


def test_licensing_may_be_switched_off(machine: Machine) -> None:
    (machine.root / "platform.toml").write_text("[licensing]\nis_enabled = false\n")
    with machine.serve() as served:
        assert served.ok("GET", "/v1/info")["offers"] == ["high_availability"]
        assert served.ok("GET", "/v1/licences")["is_licensing_on"] is False


def test_a_faulty_platform_file_hides_nothing_else(served: Served) -> None:
    (served.machine.root / "platform.toml").write_text("[platform]\nmachine = 'tractor'\n")
    told = served.ok("GET", "/v1/info")
    assert (told["udi"], told["device_type"], told["node"]) == (None, None, "mse1")
    served.refused("GET", "/v1/licences", 500, "MSE-PLT-001")
