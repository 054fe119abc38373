"""The small files of the admin process: settings, people, audit, operations."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from openmse.api.audit import Audit, AuditEntry
from openmse.api.config import ManagementConfig, load, parse
from openmse.api.errors import AuditUnavailable, ClaimedByAnother, fault_of, outcome_of
from openmse.api.operations import (
    KeptOperation,
    Operation,
    OperationKind,
    OperationState,
    OperationStore,
    is_id,
    new_id,
)
from openmse.api.people import (
    MAX_REPLACED,
    Console,
    People,
    Scope,
    new_token,
    token_id_of,
)
from openmse.api.store import ManagementPlaces, prepare
from openmse.cli.main import root
from openmse.errors import (
    CommandFailed,
    CommandRefused,
    ConfigError,
    ControlError,
    DaemonDownError,
    MseError,
    PairingError,
    StateError,
)


@pytest.fixture
def places(tmp_path: Path) -> ManagementPlaces:
    found = ManagementPlaces.of(tmp_path)
    prepare(found)
    return found


# -- settings -------------------------------------------------------------------------------


def test_an_absent_file_means_the_defaults(tmp_path: Path) -> None:
    usual = tmp_path / "management.toml"
    found = load(usual, usual=usual)
    assert found == ManagementConfig()
    assert found.management.port == 8466


@pytest.mark.parametrize("arguments", [["config", "check"], ["fingerprint", "--management"]])
def test_a_file_that_is_named_has_to_be_there(arguments: list[str], tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    done = CliRunner().invoke(root, ["admin", *arguments, str(absent)])
    assert isinstance(done.exception, ConfigError), done.output
    assert done.exception.exit_code == 2
    assert str(absent) in done.exception.sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[management]\nport = -1", "management.port"),
        ("[management]\nport = 'x'", "management.port"),
        ("[management]\naddress = 'mse1'", "literal address"),
        ("[management]\nkey_file = '/a'", "go together"),
        ("[management]\nkey_file = 'a'\ncertificate_file = 'b'", "absolute path"),
        ("[limits]\nconnections = 1", "limits.connections"),
        ("[limits]\nconnections = 20\nstreams = 20", "limits.streams"),
        ("[limits]\nstream = 4", "stream"),
        ("[other]\nx = 1", "other"),
        ("[", "not a valid TOML"),
        ("\udcff", "not a text file"),
    ],
)
def test_faults_are_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as fault:
        parse(text.encode("utf-8", "surrogateescape"), Path("/x/management.toml"))
    assert words in fault.value.sentence
    assert "/x/management.toml" in fault.value.sentence


# -- people ---------------------------------------------------------------------------------


def console(name: str) -> Console:
    secret = new_token(name, Scope.ADMINISTER, "test", console=f"console-{name}")
    return Console(
        id=f"console-{name}",
        name=name,
        url="",
        claimed_at="2026",
        claimed_by="test",
        token=secret.token,
    )


def test_replaced_consoles_are_remembered_within_bounds(places: ManagementPlaces) -> None:
    people = People(places)
    for number in range(MAX_REPLACED + 5):
        people.claim_console(console(f"c{number}"), is_forced=True)
    claim = People(places).claim.read()
    assert claim.console is not None
    assert claim.console.name == f"c{MAX_REPLACED + 4}"
    assert [one.name for one in claim.replaced][:2] == [
        f"c{MAX_REPLACED + 3}",
        f"c{MAX_REPLACED + 2}",
    ]
    assert len(claim.replaced) == MAX_REPLACED
    with pytest.raises(ClaimedByAnother):
        people.claim_console(console("c1"), is_forced=False)


def test_a_console_that_comes_back_is_no_replaced_one(places: ManagementPlaces) -> None:
    people = People(places)
    for name in ("osaka", "kyoto", "osaka"):
        people.claim_console(console(name), is_forced=True)
    claim = people.claim.read()
    assert [one.name for one in claim.replaced] == ["kyoto"]


def test_two_processes_see_each_others_changes(places: ManagementPlaces) -> None:
    one, two = People(places), People(places)
    assert one.tokens.read().tokens == ()
    secret = two.make_token("t", Scope.READ, "test", None)
    assert one.tokens.read().get(secret.token.id) == secret.token
    one.revoke_token(secret.token.id)
    assert two.tokens.read().tokens == ()


def test_a_token_names_itself_and_hides_its_secret() -> None:
    secret = new_token("t", Scope.READ, "test")
    assert token_id_of(secret.text) == secret.token.id
    assert secret.text not in repr(secret)
    assert secret.token.hash not in repr(secret)
    assert token_id_of("mse_short_x") == ""


# -- audit ----------------------------------------------------------------------------------


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at="2026",
        who="user admin",
        scope="administer",
        from_address="10.0.0.1",
        action=f"action {number}",
        result="done",
    )


def test_the_chain_holds_over_rotations(places: ManagementPlaces) -> None:
    audit = Audit(places, max_bytes=2000, kept_files=20)
    for number in range(50):
        audit.write(entry(number))
    assert [one.action for one in audit.newest(3)] == ["action 49", "action 48", "action 47"]
    assert len(audit.newest(1000)) == 50
    assert audit.faults() == []
    assert len(list(places.directory.glob("audit.jsonl*"))) > 5


def test_the_audit_is_bounded(places: ManagementPlaces) -> None:
    audit = Audit(places, max_bytes=1000, kept_files=3)
    for number in range(60):
        audit.write(entry(number))
    files = list(places.directory.glob("audit.jsonl*"))
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) <= 3000


@pytest.mark.parametrize("fault", ["change", "remove", "garbage"])
def test_a_line_that_was_tampered_with_shows(places: ManagementPlaces, fault: str) -> None:
    audit = Audit(places)
    for number in range(5):
        audit.write(entry(number))
    lines = places.audit.read_bytes().splitlines(keepends=True)
    if fault == "change":
        lines[2] = lines[2].replace(b"user admin", b"user eva")
    elif fault == "remove":
        del lines[2]
    else:
        lines[2] = b"garbage\n"
    places.audit.write_bytes(b"".join(lines))
    assert audit.faults() != []


def test_an_audit_that_cannot_be_written_is_told(places: ManagementPlaces) -> None:
    places.audit.mkdir()
    with pytest.raises(AuditUnavailable, match="nothing was changed"):
        Audit(places).write(entry(0))


# -- operations -----------------------------------------------------------------------------


def operation(number: int, state: OperationState = OperationState.DONE) -> KeptOperation:
    return KeptOperation(
        Operation(
            id=f"20260131T0300{number:02}-0000000{number % 10}",
            kind=OperationKind.SWITCHOVER,
            node="mse1",
            state=state,
            by="user admin",
            from_address="10.0.0.1",
            started_at="2026",
        ),
        key="k",
    )


def test_operations_are_kept_and_those_under_way_are_lost(places: ManagementPlaces) -> None:
    store = OperationStore(places.operations)
    store.save(operation(1))
    store.save(operation(2, OperationState.RUNNING))
    (places.operations / "x.json").write_text("{")
    found = store.load()
    assert [kept.operation.state for kept in found] == [OperationState.DONE, OperationState.LOST]
    assert found[0] == operation(1)
    assert [kept.operation.id for kept in store.unsettled()] == [operation(2).operation.id]


def test_only_the_newest_are_kept(places: ManagementPlaces) -> None:
    store = OperationStore(places.operations, kept=3)
    for number in range(6):
        store.save(operation(number))
    found = [kept.operation.id for kept in store.load()]
    assert found == [operation(number).operation.id for number in (3, 4, 5)]
    store.prune(set(found))
    assert len(list(places.operations.iterdir())) == 3


def test_ids_are_file_names_and_nothing_else() -> None:
    assert is_id(new_id())
    for text in ("", "../x", "20260131T030000-ABCDEF01", "20260131T030000-00000000.json"):
        assert not is_id(text)


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (CommandRefused("No."), 409, "refused"),
        (CommandFailed("No."), 500, "failed"),
        (PairingError("No."), 409, "refused"),
        (DaemonDownError("No."), 503, "refused"),
        (ControlError("No."), 502, "failed"),
        (ControlError("No.", code="MSE-CTL-003"), 504, "lost"),
        (ControlError("No.", code="MSE-CTL-004"), 504, "lost"),
        (ControlError("No.", code="MSE-CMD-002"), 500, "failed"),
        (ControlError("No.", code="MSE-PAIR-005"), 409, "refused"),
        (StateError("No."), 500, "failed"),
        (ClaimedByAnother("No."), 409, "refused"),
    ],
)
def test_every_error_has_a_status_and_a_meaning(error: MseError, status: int, state: str) -> None:
    fault = fault_of(error, "id")
    assert (fault.status, fault.code, fault.operation) == (status, error.code, "id")
    assert outcome_of(error).state == state
    assert msgspec.json.decode(msgspec.json.encode(fault))["sentence"] == "No."


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "management").write_text("a file")
    with pytest.raises(StateError, match="cannot be made"):
        prepare(ManagementPlaces.of(tmp_path))
