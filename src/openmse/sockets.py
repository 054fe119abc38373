"""Sockets made the same way by every transport, and their failures in words."""

import errno
import socket

from openmse.errors import NetworkError

IP_FREEBIND = 15
IPV6_FREEBIND = 78
IP_BIND_ADDRESS_NO_PORT = 24

Address = tuple[str, int]
"""A literal IPv4 or IPv6 address and a port."""

_SENTENCES = {
    errno.EADDRINUSE: "another program uses that port",
    errno.EACCES: "this needs root",
    errno.EPERM: "this needs root",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
}


def family_of(host: str) -> socket.AddressFamily:
    """The address family of a literal address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def open_socket(host: str, kind: socket.SocketKind) -> socket.socket:
    """A socket that does not block, for ``host``'s family.

    It may be bound to an address that is not there yet: at boot the network can come later.
    """
    family = family_of(host)
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    return sock


def bind(sock: socket.socket, address: Address, what: str) -> None:
    """Bind, or close the socket and raise NetworkError with the reason in words."""
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        reason = _SENTENCES.get(error.errno or 0, error.strerror or str(error))
        raise NetworkError(
            f"{what} cannot listen on {address[0]} port {address[1]}: {reason}.",
            "Free the port (ss -lunpt shows who holds it) or set another one.",
            code="MSE-NET-010",
        ) from error
