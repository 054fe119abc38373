"""libnftables in this process: parses and applies rule text, a few times in a daemon's life.

Used for installing tables only; what is done at every renewal goes over netlink (``elements``),
which is quicker and does not depend on how large the machine's other rules are.
"""

import ctypes

from openmse.errors import NetworkError

_LIBRARY = "libnftables.so.1"


def apply(text: str) -> None:
    """Apply ``text`` as one transaction: all of it or nothing.

    Raises: NetworkError if the library is missing or the kernel refuses.
    """
    library = _load()
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, text.encode()) != 0:
            raw = library.nft_ctx_get_error_buffer(context) or b""
            lines = raw.decode(errors="replace").splitlines()
            raise NetworkError(
                "The kernel refused the nftables rules that guard the virtual IP: "
                f"{lines[0] if lines else 'no reason given'}.",
                "Run as root with CAP_NET_ADMIN on a kernel that has nf_tables (inet and arp).",
                code="MSE-NET-011",
            )
    finally:
        library.nft_ctx_free(context)


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NetworkError(
            f"{_LIBRARY} cannot be loaded, so the virtual IP cannot be guarded.",
            "Install the package nftables.",
            code="MSE-NET-010",
            is_retryable=False,
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library
