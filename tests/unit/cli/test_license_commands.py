"""``mse license``: from a key to a limit, and everything that is refused on the way."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli_machine import CliMachine, Ran

from openmse.node import group
from openmse.node.group import GroupInfo, NodeInfo

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: licences belong to root"),
]


class Issuer:
    """Whoever runs the deployment: a key of their own, trusted by the machine."""

    def __init__(self, machine: CliMachine) -> None:
        self.machine = machine
        self.key = machine.directory / "deployment.key"
        self.ok("license", "keygen", str(self.key))
        keys = machine.directory / "licence-keys"
        keys.mkdir()
        self.trusted = keys / "deployment.pub"
        self.trusted.write_bytes(self.key.with_name("deployment.key.pub").read_bytes())
        self.udi = str(self.json("license", "list")["udi"])

    def ok(self, *words: str) -> Ran:
        ran = self.machine.run(*words)
        assert ran.code == 0, ran.err
        return ran

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json").out)

    def issue(self, name: str, kind: str, *more: str, udi: str = "", quantity: int = 0) -> Path:
        path = self.machine.directory / name
        words = ["--key", str(self.key), "--udi", udi or self.udi, "--kind", kind]
        words += ["--issued-to", "A hospital", "--issued-by", "Its operator", "--out", str(path)]
        if quantity:
            words += ["--quantity", str(quantity)]
        self.ok("license", "issue", *words, *more)
        return path

    def limit(self) -> int:
        found = self.json("license", "limits")["limits"]
        return int(next(row["limit"] for row in found if row["kind"] == "elements"))


@pytest.fixture
def issuer(machine: CliMachine) -> Issuer:
    (machine.directory / "platform.toml").write_text('[platform]\nmachine = "VA-Standard"\n')
    return Issuer(machine)


def test_the_key_is_never_shown(machine: CliMachine) -> None:
    key = machine.directory / "k"
    ran = machine.run("license", "keygen", str(key), "--json")
    made = json.loads(ran.out)
    assert key.stat().st_mode & 0o777 == 0o600
    secret = key.read_text().split("\n")[1]
    assert secret not in ran.out + ran.err
    assert made["public_key_file"] == f"{key}.pub"
    again = machine.run("license", "keygen", str(key))
    assert (again.code, "exists already" in again.err) == (2, True)
    assert secret in key.read_text()


def test_from_a_key_to_a_limit(issuer: Issuer) -> None:
    assert issuer.limit() == 100
    activation = issuer.issue("a.licence", "activation")
    elements = issuer.issue("e.licence", "elements", quantity=2000)
    assert "Its signature is genuine" in issuer.ok("license", "show", str(elements)).out
    issuer.ok("license", "install", str(activation))
    done = issuer.json("license", "install", str(elements))
    assert done["licence"]["quantity"] == 2000
    assert "health monitor is stopped" in done["exchange"]
    assert issuer.limit() == 2100
    text = issuer.ok("license", "limits").out
    assert "Activated" in text
    assert (
        "CAS               18000  CAS Elements                            2100  permanent" in text
    )
    listed = issuer.json("license", "list")["licences"]
    assert {view["standing"] for view in listed} == {"in force"}
    assert "in force" in issuer.ok("license", "list").out
    identity = done["licence"]["id"]
    assert "is removed" in issuer.ok("license", "remove", identity[:6]).out
    assert issuer.limit() == 100


def test_an_evaluation_and_its_extension(issuer: Issuer) -> None:
    issuer.ok("license", "install", str(issuer.issue("a", "activation")))
    words = ("--type", "evaluation", "--days", "60")
    trial = issuer.issue("t", "service-advertisement-clicks", *words, quantity=5000)
    base = issuer.json("license", "install", str(trial))["licence"]["id"]
    words = ("--type", "extension", "--days", "30", "--extends", base)
    more = issuer.issue("m", "service-advertisement-clicks", *words)
    issuer.ok("license", "install", str(more))
    found = {v["licence"]["type"]: v for v in issuer.json("license", "list")["licences"]}
    assert found["evaluation"]["last_day"] == found["extension"]["last_day"]
    assert "last day" in issuer.ok("license", "list").out


def refused(issuer: Issuer, code: int, match: str, *words: str) -> None:
    """A command ends with a code, says ``match``, and the limit is what it was."""
    before = issuer.limit()
    ran = issuer.machine.run(*words)
    assert (ran.code, match in ran.err) == (code, True), ran.err
    assert "Traceback" not in ran.err
    assert issuer.limit() == before


def test_what_is_refused(issuer: Issuer) -> None:
    activation = issuer.issue("a", "activation")
    elements = issuer.issue("e", "elements", quantity=7)
    foreign = issuer.issue("f", "elements", udi="AIR-MSE-VA-K9:V01:vm_other", quantity=7)
    another = issuer.issue("t", "elements", udi="AIR-MSE-3355-K9:V01:X", quantity=7)
    install = ("license", "install")
    refused(issuer, 3, "not activated", *install, str(elements))
    issuer.ok(*install, str(activation))
    refused(issuer, 3, "bound to engine", *install, str(foreign))
    refused(issuer, 3, "for an engine of the type AIR-MSE-3355-K9", *install, str(another))
    refused(issuer, 2, "No such file", *install, str(issuer.machine.directory / "absent"))
    refused(issuer, 2, "is a directory", *install, str(issuer.machine.directory))
    whole = elements.read_bytes()
    elements.write_bytes(whole[:-10])
    refused(issuer, 2, "cut short", *install, str(elements))
    elements.write_bytes(whole.replace(b"Quantity: 7", b"Quantity: 9"))
    refused(issuer, 3, "not genuine", *install, str(elements))
    elements.write_bytes(whole)
    issuer.ok(*install, str(elements))
    refused(issuer, 3, "installed already", *install, str(elements))
    begins = {view["licence"]["id"][0] for view in issuer.json("license", "list")["licences"]}
    wrong = min({*"0123456789abcdef"} - begins)  # ids are random
    refused(issuer, 3, "is no licence", "license", "remove", wrong)
    issuer.trusted.write_text("")
    ran = issuer.machine.run("license", "list")
    assert ran.out.count("DOES NOT COUNT") == 3  # the key, and both licences with it
    assert issuer.limit() == 100
    shown = issuer.machine.run("license", "show", str(elements), "--json")
    assert (shown.code, json.loads(shown.out)["is_trusted"]) == (3, False)


def test_issuing_what_cannot_be(issuer: Issuer) -> None:
    out = issuer.machine.directory / "out"
    fixed = ["--key", str(issuer.key), "--issued-to", "A", "--issued-by", "B", "--out", str(out)]
    kind = ["--kind", "elements"]
    for words, match in (
        (["--udi", issuer.udi, *kind], "quantity"),
        (["--udi", "nothing", *kind, "--quantity", "3"], "not a UDI"),
        (["--udi", issuer.udi, *kind, "--quantity", "3", "--days", "5"], "no days"),
        (["--udi", issuer.udi, "--kind", "apples"], "Invalid value"),
    ):
        refused(issuer, 2, match, "license", "issue", *fixed, *words)
        assert not out.exists()
    issuer.key.chmod(0o644)
    good = ["--udi", issuer.udi, *kind, "--quantity", "3"]
    refused(issuer, 2, "can be read by others", "license", "issue", *fixed, *good)
    issuer.key.chmod(0o600)
    out.write_text("mine")
    refused(issuer, 2, "exists already", "license", "issue", *fixed, *good)
    assert out.read_text() == "mine"


def test_switched_off(issuer: Issuer) -> None:
    path = issuer.machine.directory / "platform.toml"
    path.write_text(path.read_text() + "[licensing]\nis_enabled = false\n")
    assert issuer.limit() == 18_000
    assert "switched off" in issuer.ok("license", "limits").out


def test_sync_needs_the_health_monitor(issuer: Issuer) -> None:
    refused(issuer, 4, "does not answer", "license", "sync")


def test_sync_of_an_unpaired_engine(running: CliMachine) -> None:
    ran = running.run("license", "sync")
    assert (ran.code, "not paired" in ran.out) == (0, True), ran.err


def test_a_pair_whose_database_does_not_answer(running: CliMachine) -> None:
    """Installed here, and the truth about the other node; nothing waits, nothing is lost."""
    pair = GroupInfo(
        "0123456789ab",
        "mse1",
        (NodeInfo("mse1", "127.0.0.1"), NodeInfo("mse2", "127.0.0.2")),
        ("10.10.10.10/24",),
    )
    issuer = Issuer(running)
    group.save(running.state / "group.json", pair)
    activation = issuer.issue("a", "activation")
    done = issuer.json("license", "install", str(activation))
    assert "The other node could not be told" in done["exchange"]
    assert "stays" in done["exchange"]
    ran = running.run("license", "sync")
    assert (ran.code, "MSE-PLT-004" in ran.err) == (1, True)
    (view,) = issuer.json("license", "list")["licences"]
    assert view["standing"] == "in force"
