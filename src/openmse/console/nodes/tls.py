"""Trust in engines: one pinned certificate each, checked before anything secret is sent."""

import asyncio
import hashlib
import ssl

from openmse.console.errors import NodeUnreachable, NodeUntrusted
from openmse.documents import document

CONNECT_WITHIN_S = 5.0
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: what is pinned is the key, and clocks of machines may be wrong."""


def fingerprint(der: bytes) -> str:
    """SHA-256 over the certificate, in pairs with colons, as `mse admin fingerprint` prints it."""
    digits = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def pinned_context(der: bytes) -> ssl.SSLContext:
    """A context that accepts exactly this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the certificate itself is what is known, not a name
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(der))
    flags = int(context.verify_flags) | int(ssl.VERIFY_X509_PARTIAL_CHAIN) | _NO_CHECK_TIME
    context.verify_flags = ssl.VerifyFlags(flags)
    return context


async def certificate_of(host: str, port: int) -> bytes:
    """The certificate that answers there (DER); nothing is sent. Raises NodeUnreachable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        raise unreachable(host, port, error) from error
    tls = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls else None
    writer.transport.abort()
    if not der:
        raise NodeUnreachable(f"{host} port {port} shows no certificate.")
    return bytes(der)


def unreachable(host: str, port: int, error: BaseException) -> NodeUnreachable:
    """Why nobody answers there, in words."""
    where = f"{host} port {port}"
    hint = (
        "Check the address, that 'mse admin run' runs there, and the firewall "
        f"({document('ports')})."
    )
    if isinstance(error, ConnectionRefusedError):
        return NodeUnreachable(f"Nothing listens at {where}.", hint)
    if isinstance(error, TimeoutError):
        return NodeUnreachable(f"{where} does not answer.", hint)
    if isinstance(error, ssl.SSLError):
        return NodeUnreachable(f"{where} answers, but does not speak TLS as engines do.", hint)
    reason = (
        error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    )
    return NodeUnreachable(f"{where} cannot be reached ({reason}).", hint)


def translated(error: BaseException, name: str, address: str, port: int) -> NodeUnreachable:
    """What went wrong with an engine whose certificate is pinned, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NodeUntrusted(
            f"Who answers at {address} shows another certificate than the one that "
            f"was confirmed for {name}, so nothing was sent to it.",
            "If the certificate was renewed there ('mse admin certificate renew'), edit "
            "the engine and confirm the new fingerprint. Otherwise find out who answers.",
        )
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return NodeUnreachable(
            f"{name} hung up ({address} port {port}).",
            "Its management process may be restarting; the pair is not affected.",
        )
    return unreachable(address, port, error)
