"""Certificates: what they say, who can be fooled by them (nobody), and when they are renewed."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openmse.errors import PeerError, StateError
from openmse.pki.authority import (
    REPLICATION_USER,
    Authority,
    Subject,
    authority_expires_s,
    belongs,
    describe,
    new_key,
    public_fingerprint,
    renewal_reason,
    signing_request,
    verify,
)
from openmse.pki.files import PUBLIC, Owner, read_file, write_file
from openmse.pki.names import Identity, Role, parse_identity
from openmse.pki.renewal import DAY_S, LEAF_LIFETIME_S, renewal_due

NODE = Subject(
    Identity("floor1", Role.NODE, "mse1"),
    ("mse1.example.net",),
    ("10.10.10.11", "10.10.10.50", "fd00::50", "10.10.10.50"),
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("floor1")


def issue(authority: Authority, subject: Subject, key: bytes, asked: str = "x") -> bytes:
    return authority.issue(signing_request(key, asked), subject)


def test_a_node_is_named_with_its_addresses_and_the_virtual_ones(authority: Authority) -> None:
    key = new_key()
    facts = verify(issue(authority, NODE, key), authority.certificate_pem)
    assert facts.identity == NODE.identity
    assert facts.common_name == "mse1"
    assert facts.names == ("mse1", "mse1.example.net")
    assert facts.addresses == ("10.10.10.11", "10.10.10.50", "fd00::50")
    assert facts.fingerprint == public_fingerprint(key)
    assert facts.fingerprint == public_fingerprint(signing_request(key, "y"))
    assert facts.fingerprint != public_fingerprint(new_key())


@pytest.mark.parametrize("role", [Role.WITNESS, Role.REPLICATION])
def test_others_cannot_pose_as_the_database(authority: Authority, role: Role) -> None:
    subject = Subject(Identity("floor1", role, "mse2"), ("mse1",), ("10.10.10.50",))
    certificate = issue(authority, subject, new_key(), asked="mse1")
    facts = describe(certificate)
    assert facts.names == facts.addresses == ()
    assert facts.common_name in (REPLICATION_USER, "openmse witness")
    usage = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.ExtendedKeyUsage
    )
    is_server = ExtendedKeyUsageOID.SERVER_AUTH in usage.value
    assert is_server == (role is Role.WITNESS)


def test_what_a_request_asks_for_is_ignored(authority: Authority) -> None:
    facts = describe(issue(authority, NODE, new_key(), asked=REPLICATION_USER))
    assert facts.common_name == "mse1"


def test_another_authority_is_not_believed(authority: Authority) -> None:
    other = Authority.create("floor1")
    with pytest.raises(PeerError, match="not signed by the authority"):
        verify(issue(other, NODE, new_key()), authority.certificate_pem)
    with pytest.raises(StateError, match="does not belong"):
        Authority(authority.certificate_pem, other.key_pem)


def test_a_request_must_be_signed_by_its_own_key(authority: Authority) -> None:
    pem = signing_request(new_key(), "mse1")
    request = x509.load_pem_x509_csr(pem)
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    bent = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    for bad in (bent, b"", b"rubbish", pem[:100]):
        with pytest.raises(PeerError):
            authority.issue(bad, NODE)


def test_a_request_with_another_kind_of_key_is_refused(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    with pytest.raises(PeerError, match="another kind"):
        authority.issue(request.public_bytes(serialization.Encoding.PEM), NODE)


def test_rubbish_is_not_a_certificate(authority: Authority) -> None:
    for bad in (b"", b"rubbish", authority.certificate_pem):  # the authority names nobody
        with pytest.raises(PeerError):
            describe(bad)
    with pytest.raises(StateError):
        belongs(authority.certificate_pem, b"rubbish")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_it_strictly(authority: Authority, tmp_path: Path, purpose: str) -> None:
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    (tmp_path / "node.crt").write_bytes(issue(authority, NODE, new_key()))
    command = ["openssl", "verify", "-x509_strict", "-verify_ip", "10.10.10.50"]
    command += ["-purpose", purpose, "-CAfile", "ca.crt", "node.crt"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_lifetimes(authority: Authority) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    made = Authority.create("floor1", now=now)
    years_s = authority_expires_s(made.certificate_pem) - now.timestamp()
    assert years_s == 20 * 365 * DAY_S
    leaf = describe(made.issue(signing_request(new_key(), "x"), NODE, now=now))
    assert leaf.not_after_s - now.timestamp() == LEAF_LIFETIME_S
    late = datetime(2049, 12, 1, tzinfo=UTC)
    last = describe(made.issue(signing_request(new_key(), "x"), NODE, now=late))
    assert last.not_after_s == authority_expires_s(made.certificate_pem)


@pytest.mark.parametrize(
    ("age_days", "is_due", "is_expired"),
    [(0, False, False), (243, False, False), (244, True, False), (365, True, True)],
)
def test_renewal_is_due_after_two_thirds(age_days: int, is_due: bool, is_expired: bool) -> None:
    due = renewal_due(LEAF_LIFETIME_S, age_days * DAY_S)
    assert (due.is_due, due.is_expired) == (is_due, is_expired)
    assert due.remaining_s == (365 - age_days) * DAY_S


def test_why_to_renew(authority: Authority) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    pem = authority.issue(signing_request(new_key(), "x"), NODE, now=now)

    def reason(subject: Subject = NODE, days: int = 0, ca: Authority = authority) -> str:
        return renewal_reason(pem, ca.certificate_pem, subject, now.timestamp() + days * DAY_S)

    assert reason() == reason(days=243) == ""
    assert "Two thirds" in reason(days=244)
    assert "lacks an address" in reason(NODE._replace(addresses=("10.10.10.51",)))
    assert reason(NODE._replace(addresses=("FD00:0::50",))) == ""
    assert "another party" in reason(NODE._replace(identity=Identity("f", Role.NODE, "mse1")))
    assert "not signed" in reason(ca=Authority.create("floor1"))
    assert renewal_reason(b"", authority.certificate_pem, NODE, 0.0)


def test_a_witness_need_not_renew(authority: Authority) -> None:
    witness = Subject(Identity("floor1", Role.WITNESS, "w"))
    pem = issue(authority, witness, new_key())
    assert describe(pem).not_after_s == authority_expires_s(authority.certificate_pem)
    assert renewal_reason(pem, authority.certificate_pem, witness, 2**40) == ""


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://floor1/node/mse1",
        "openmse://floor1/king/mse1",
        "openmse://floor1/node",
        "openmse://floor1/node/mse1/x",
        "openmse:///node/mse1",
        "openmse://floor1/node/a b",
    ],
)
def test_foreign_uris_name_nobody(uri: str) -> None:
    with pytest.raises(PeerError):
        parse_identity(uri)


def test_identities_round_trip() -> None:
    identity = Identity("floor1", Role.WITNESS, "w.example-1")
    assert parse_identity(identity.uri) == identity


def test_files_are_whole_and_owned(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    owner = Owner(os.getuid(), os.getgid())
    write_file(path, b"secret", owner=owner)
    assert path.stat().st_mode & 0o777 == 0o600
    write_file(path, b"public", mode=PUBLIC)
    assert path.stat().st_mode & 0o777 == 0o644
    assert read_file(path) == b"public"
    assert os.listdir(tmp_path) == ["node.key"]
    with pytest.raises(StateError, match="larger"):
        read_file(path, limit_bytes=3)
    with pytest.raises(StateError, match="could not be read"):
        read_file(tmp_path / "none")
    with pytest.raises(StateError, match="could not be written"):
        write_file(tmp_path / "none" / "x", b"")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_key_can_belong_to_the_database_user(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    write_file(path, b"secret", owner=Owner(12345, 23456))
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 23456, 0o600)
