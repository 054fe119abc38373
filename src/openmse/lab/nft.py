"""libnftables, bound to one network namespace, fast enough to cut a cable at an exact instant.

A child process per command would cost more than the fault may take; so one thread stays inside the
namespace and runs each batch as one kernel transaction (about a millisecond).
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openmse.errors import NetworkError
from openmse.lab import linux

LIBRARY = "libnftables.so.1"


class Nft:
    """Runs nftables batches inside the network namespace kept at ``netns``."""

    def __init__(self, netns: Path) -> None:
        self._netns = netns
        self._library = ctypes.CDLL(LIBRARY)
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context: ctypes.c_void_p | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"nft-{netns.name}")

    def run(self, batch: str) -> int:
        """Apply ``batch`` (nft syntax) wholly or not at all.

        Returns the CLOCK_BOOTTIME ns read when the kernel had confirmed it.
        Raises: NetworkError.
        """
        return self._thread.submit(self._run, batch).result()

    def close(self) -> None:
        """Leave the namespace; the thread ends."""
        self._thread.submit(self._free).result()
        self._thread.shutdown()

    def _run(self, batch: str) -> int:
        if self._context is None:
            self._enter()
        failed = self._library.nft_run_cmd_from_buffer(self._context, batch.encode())
        at = linux.now_ns()
        if failed:
            reason = self._library.nft_ctx_get_error_buffer(self._context) or b""
            raise NetworkError(
                f"The laboratory's switch refused its rules: {reason.decode().strip()}",
                "Take the laboratory down and up again: mse lab down, mse lab up.",
            )
        return at

    def _enter(self) -> None:
        linux.enter_network(str(self._netns))
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def _free(self) -> None:
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None
