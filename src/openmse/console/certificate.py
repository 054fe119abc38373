"""The certificate of the console's pages: the deployment's own, or one made at the first start."""

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openmse.console.errors import ConsoleConfigError, ConsoleStoreError
from openmse.console.settings import ConsoleSettings

DAYS = 3650


def files(settings: ConsoleSettings) -> tuple[Path, Path]:
    """Certificate and key, made where neither is named nor there. Raises MseError."""
    if settings.tls.cert_file:
        pair = Path(settings.tls.cert_file), Path(settings.tls.key_file)
        for path in pair:
            if not os.access(path, os.R_OK):
                raise ConsoleConfigError(
                    f"tls: {path} cannot be read.", "Correct [tls], or leave both files out."
                )
        return pair
    cert, key = settings.state_dir / "tls.crt", settings.state_dir / "tls.key"
    if not (cert.exists() and key.exists()):
        try:
            settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(settings, cert, key)
        except OSError as error:
            raise ConsoleStoreError(
                f"The certificate of the console cannot be written: {error.strerror}.",
                "Check the state directory ([paths] state_dir) and who may write there.",
            ) from error
    return cert, key


def _make(settings: ConsoleSettings, cert_path: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OpenMSE console")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(settings)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM))


def _names(settings: ConsoleSettings) -> list[x509.GeneralName]:
    host = settings.shown_url.removeprefix("https://").rpartition(":")[0].strip("[]")
    found: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for name in dict.fromkeys((host, settings.console.address, socket.gethostname(), "127.0.0.1")):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name and name != "localhost" and name.isascii():
                found.append(x509.DNSName(name))
    return found


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
