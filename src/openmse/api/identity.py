"""Who this engine is to its clients: the TLS key and certificate, its fingerprint, its UDI."""

import datetime
import ipaddress
import re
import socket
import ssl
import uuid
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from openmse.api.config import ManagementConfig
from openmse.api.store import ManagementPlaces, locked
from openmse.errors import StateError
from openmse.pki.files import PRIVATE, PUBLIC, read_file, write_file

VALID_DAYS = 3650
"""Clients pin it, so nothing is gained by a short life, and a renewal is a person's work."""
PRODUCT_ID = "OPENMSE"
HARDWARE_VERSION = "V01"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TlsFiles(Struct, frozen=True):
    """Where the key and the certificate are; PEM."""

    certificate: Path
    key: Path


class Udi(Struct, frozen=True):
    """The identity of a machine as the guide writes it; its serial is HOSTNAME_UUID."""

    product_id: str
    hardware_version: str
    serial: str

    def __str__(self) -> str:
        return f"{self.product_id}:{self.hardware_version}:{self.serial}"


def tls_files(config: ManagementConfig, places: ManagementPlaces) -> TlsFiles:
    """Which files are in force."""
    section = config.management
    if section.certificate_file:
        return TlsFiles(Path(section.certificate_file), Path(section.key_file))
    return TlsFiles(places.certificate, places.key)


def ensure_certificate(places: ManagementPlaces, name: str, addresses: tuple[str, ...]) -> None:
    """Make the key and the self-signed certificate where they are missing; raises StateError."""
    if _has_certificate(places):
        return  # also on a disk that is full: who can be served is served
    with locked(places.lock):
        if not _has_certificate(places):
            make_certificate(places, name, addresses)


def _has_certificate(places: ManagementPlaces) -> bool:
    return places.key.exists() and places.certificate.exists()


def make_certificate(places: ManagementPlaces, name: str, addresses: tuple[str, ...]) -> None:
    """Make a new key and certificate; whoever pinned the old one must pin again."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    names: list[x509.GeneralName] = [x509.DNSName(name)] if re.fullmatch(r"[\w.-]+", name) else []
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_file(places.key, pem, mode=PRIVATE)
    write_file(
        places.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=PUBLIC
    )


def fingerprint(certificate: Path) -> str:
    """SHA-256 over the DER form, in pairs with colons; raises StateError."""
    digest = _load(certificate).fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def certificate_days_left(certificate: Path, now: datetime.datetime) -> int:
    """Whole days until it ends; negative afterwards. Raises StateError."""
    return (_load(certificate).not_valid_after_utc - now).days


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_file(path))
    except ValueError as error:
        raise StateError(
            f"The file {path} holds no certificate that can be read.",
            "Restore it, or make another with 'mse admin certificate renew'.",
            code="MSE-STA-033",
        ) from error


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """What the server speaks; raises StateError where the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StateError(
            f"The certificate {files.certificate} with the key {files.key} cannot be used: "
            f"{reason}.",
            "Both are PEM and belong together; the key has no password. 'mse admin certificate "
            "renew' makes new ones.",
            code="MSE-STA-033",
        ) from error
    return context


def udi(places: ManagementPlaces) -> Udi:
    """This machine's identity; its own part is made once and kept. Raises StateError."""
    serial = _serial(places)
    if not serial:
        with locked(places.lock):
            serial = _serial(places)
            if not serial:
                serial = str(uuid.uuid4())
                write_file(places.serial, f"{serial}\n".encode())
    return Udi(PRODUCT_ID, HARDWARE_VERSION, f"{socket.gethostname()}_{serial}")


def _serial(places: ManagementPlaces) -> str:
    if not places.serial.exists():
        return ""
    text = read_file(places.serial).decode(errors="replace").strip()
    return text if _UUID.fullmatch(text) else ""
