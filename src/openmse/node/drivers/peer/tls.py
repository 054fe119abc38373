"""TLS contexts of a group, and who the certificate at the other end of a connection speaks for.

Validity periods are not looked at here: a private authority's certificate is made useless by
taking its holder out of the group, and a pair must not lose its control path because a clock is
wrong, which is one of the faults it exists to survive (ADR "certificates and clocks").
"""

import hashlib
import ssl
from pathlib import Path
from typing import Any, NamedTuple

from openmse.errors import PeerError, StateError
from openmse.pki.names import Identity, parse_identity

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME."""


class TlsFiles(NamedTuple):
    """Where a party keeps what proves who it is; PEM."""

    certificate: Path
    key: Path
    authority: Path


def server_name(group: str) -> str:
    """The name a client asks for, so that a witness of many groups shows the right certificate.

    A hash: a group's name may hold what a host name may not, and is nobody else's business.
    """
    return f"g{hashlib.sha256(group.encode()).hexdigest()[:32]}.openmse"


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For connections we open; raises StateError where the files are missing or damaged."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the identity is a URI, checked by ``peer_identity``
    return _loaded(context, files)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For connections others open to us; raises StateError as above."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a resumed session would outlive the group it was made in
    return _loaded(context, files)


def front_context(contexts: dict[str, ssl.SSLContext]) -> ssl.SSLContext:
    """The listener's: it holds no certificate, only picks the context by the name asked for."""
    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.minimum_version = ssl.TLSVersion.TLSv1_3
    front.num_tickets = 0
    front.verify_mode = ssl.CERT_REQUIRED

    def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> int | None:
        context = contexts.get(name or "")
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = context
        return None

    front.sni_callback = choose
    return front


def peer_identity(connection: Any) -> Identity:
    """Whom the verified certificate at the other end names; raises PeerError."""
    certificate = connection.getpeercert() or {}
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if len(uris) != 1:
        raise PeerError("The certificate of the other party does not name one party of a group.")
    return parse_identity(uris[0])


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except OSError as error:  # ssl.SSLError is one
        raise StateError(
            f"The certificate, key or authority of this machine cannot be used "
            f"({files.certificate.parent}): {error.strerror or error}.",
            "Renew the certificate, or pair again.",
            code="MSE-STA-020",
        ) from error
    return context
