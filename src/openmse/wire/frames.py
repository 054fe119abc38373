"""Messages on a stream: four bytes of length, then as many bytes. Pure, bounded."""

from openmse.errors import PeerError

HEADER_BYTES = 4


def frame(data: bytes) -> bytes:
    """``data`` with its length before it."""
    return len(data).to_bytes(HEADER_BYTES, "big") + data


class FrameReader:
    """Collects bytes as they come and gives out whole frames; keeps at most one and a bit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes.

        Raises PeerError where a frame announces more than the limit: the stream is lost then.
        """
        self._buffer += data
        frames = []
        start = 0
        while len(self._buffer) - start >= HEADER_BYTES:
            length = int.from_bytes(self._buffer[start : start + HEADER_BYTES], "big")
            if length > self._limit_bytes:
                raise PeerError(
                    f"A frame of {length} bytes was announced; the limit is {self._limit_bytes}."
                )
            end = start + HEADER_BYTES + length
            if end > len(self._buffer):
                break
            frames.append(bytes(self._buffer[start + HEADER_BYTES : end]))
            start = end
        del self._buffer[:start]
        return frames
