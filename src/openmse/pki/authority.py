"""The certificate authority of a group: made once, held by both nodes after pairing.

Imports ``cryptography.x509``, which is slow to load: import this module only where something is
issued, renewed or looked at, never at the start of the daemon. Keys are ECDSA P-256.
"""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openmse.errors import PeerError, StateError
from openmse.pki.names import Identity, Role, parse_identity
from openmse.pki.renewal import AUTHORITY_LIFETIME_S, LEAF_LIFETIME_S, renewal_due

REPLICATION_USER = "openmse_replication"
"""The name PostgreSQL takes from the replication certificate."""
_COMMON_NAMES = {Role.REPLICATION: REPLICATION_USER, Role.WITNESS: "openmse witness"}
"""A client that finds no host name in a certificate compares this one: so it must not be one."""
_VALID_FROM = datetime(1970, 1, 2, tzinfo=UTC)
"""A machine whose clock's battery is dead starts here; its certificates shall work there too."""


class Subject(NamedTuple):
    """Whom a certificate is for, and by which names and addresses it is reached."""

    identity: Identity
    names: tuple[str, ...] = ()
    """DNS names."""
    addresses: tuple[str, ...] = ()
    """IP addresses, the virtual ones too."""


class Facts(NamedTuple):
    """What a certificate says."""

    identity: Identity
    common_name: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    not_after_s: float
    fingerprint: str


def new_key() -> bytes:
    """A private key, PEM (PKCS 8, not encrypted)."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def signing_request(key_pem: bytes, common_name: str) -> bytes:
    """A request that proves possession of ``key_pem``; the authority takes only the key of it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(_load_key(key_pem), hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )


def public_fingerprint(pem: bytes) -> str:
    """SHA-256 of the public key in a certificate, a request or a private key, in groups of 4."""
    if b"CERTIFICATE REQUEST" in pem:
        public = load_request(pem).public_key()
    elif b"PRIVATE KEY" in pem:
        public = _load_key(pem).public_key()
    else:
        public = _load(pem).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    text = digest.finalize().hex()[:32]
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """A signing request that is signed by its own P-256 key; raises PeerError otherwise."""
    try:
        request = x509.load_pem_x509_csr(pem)
        is_signed = request.is_signature_valid
    except (ValueError, TypeError) as error:
        raise PeerError("The certificate request cannot be read.") from error
    if not is_signed:
        raise PeerError("The certificate request is not signed by the key that it names.")
    _request_key(request)
    return request


class Authority:
    """Issues certificates for one group."""

    def __init__(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Raises StateError where the key does not belong to the certificate."""
        self._certificate = _load(certificate_pem)
        self._key = _load_key(key_pem)
        if self._certificate.public_key() != self._key.public_key():
            raise StateError("The authority's key does not belong to its certificate.")
        self.certificate_pem = certificate_pem
        self.key_pem = key_pem

    @classmethod
    def create(cls, group: str, *, now: datetime | None = None) -> Self:
        """A new authority for ``group``."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "OpenMSE"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"OpenMSE group {group}"),
            ]
        )
        until = (now or datetime.now(UTC)) + timedelta(seconds=AUTHORITY_LIFETIME_S)
        builder = _builder(name, name, key.public_key(), until)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_usage(is_authority=True), True)
        certificate = _sign(builder, key, key.public_key())
        return cls(certificate, _key_pem(key))

    def issue(self, request_pem: bytes, subject: Subject, *, now: datetime | None = None) -> bytes:
        """A certificate (PEM) for the key in ``request_pem`` and the names in ``subject``.

        What the request says of names is ignored: a witness may not become a node, nor a
        replication client, by asking. Only a node's and its database's certificates carry host
        names and addresses: with another's nobody can pose as the database. A witness's
        certificate lasts as long as the authority, for a witness cannot renew it by itself.
        Raises PeerError where the request is not sound.
        """
        key = _request_key(load_request(request_pem))
        common_name = _COMMON_NAMES.get(subject.identity.role, subject.identity.id)
        last = self._certificate.not_valid_after_utc
        until = (now or datetime.now(UTC)) + timedelta(seconds=LEAF_LIFETIME_S)
        until = last if subject.identity.role is Role.WITNESS else min(until, last)
        usages = []
        if subject.identity.role is not Role.DATABASE:
            usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        if subject.identity.role is not Role.REPLICATION:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]),
            self._certificate.subject,
            key,
            until,
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_usage(is_authority=False), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        builder = builder.add_extension(_alternative_names(subject), False)
        return _sign(builder, self._key, self._key.public_key())


def describe(certificate_pem: bytes) -> Facts:
    """What a certificate of ours says; raises PeerError where it is none."""
    certificate = _load(certificate_pem)
    try:
        sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = sans.get_values_for_type(x509.UniformResourceIdentifier)
        common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        identity, common_name = parse_identity(uris[0]), str(common_names[0].value)
    except (x509.ExtensionNotFound, LookupError) as error:
        raise PeerError("A certificate names nobody of this product.") from error
    return Facts(
        identity,
        common_name,
        tuple(sans.get_values_for_type(x509.DNSName)),
        tuple(str(address) for address in sans.get_values_for_type(x509.IPAddress)),
        certificate.not_valid_after_utc.timestamp(),
        public_fingerprint(certificate_pem),
    )


def verify(certificate_pem: bytes, authority_pem: bytes) -> Facts:
    """What a certificate says, once it is known to be signed by the authority.

    The dates are left to ``renewal_due``. Raises PeerError where another authority signed it.
    """
    certificate, authority = _load(certificate_pem), _load(authority_pem)
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PeerError("The certificate was not signed by the authority of this group.") from error
    return describe(certificate_pem)


def renewal_reason(
    certificate_pem: bytes, authority_pem: bytes, subject: Subject, now_s: float
) -> str:
    """Why a node's certificate should be issued anew now, as a sentence; '' where it need not.

    Raises nothing: a certificate that cannot be read is a reason.
    """
    try:
        facts = verify(certificate_pem, authority_pem)
    except PeerError as error:
        return error.sentence
    if facts.identity != subject.identity:
        return "The certificate is for another party."
    wanted = {str(ipaddress.ip_address(address)) for address in subject.addresses}
    is_server = subject.identity.role in (Role.NODE, Role.DATABASE)
    if is_server and not wanted <= set(facts.addresses):
        return "The certificate lacks an address by which this node is reached."
    if authority_expires_s(authority_pem) <= facts.not_after_s:
        return ""  # it lasts as long as it can
    due = renewal_due(facts.not_after_s, now_s)
    return "Two thirds of the certificate's lifetime are over." if due.is_due else ""


def belongs(certificate_pem: bytes, key_pem: bytes) -> bool:
    """Whether the private key is the certificate's."""
    return _load(certificate_pem).public_key() == _load_key(key_pem).public_key()


def authority_expires_s(authority_pem: bytes) -> float:
    """When the authority ends, in seconds of the calendar clock."""
    return _load(authority_pem).not_valid_after_utc.timestamp()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(_VALID_FROM).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)


def _sign(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePublicKey,
) -> bytes:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)
    certificate = builder.add_extension(identifier, False).sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def _alternative_names(subject: Subject) -> x509.SubjectAlternativeName:
    general: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.identity.uri)]
    if subject.identity.role not in (Role.NODE, Role.DATABASE):
        return x509.SubjectAlternativeName(general)
    general += [x509.DNSName(name) for name in _unique((subject.identity.id, *subject.names))]
    for address in _unique(subject.addresses):
        general.append(x509.IPAddress(ipaddress.ip_address(address)))
    return x509.SubjectAlternativeName(general)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _request_key(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    key = request.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise PeerError("The certificate request names a key of another kind than this product's.")


def _load(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise PeerError("A certificate cannot be read.") from error


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise StateError("A private key cannot be read.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StateError("A private key is not of the kind that this product makes.")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
