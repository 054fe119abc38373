"""Style, scripts and pictures of the pages: read once, kept in memory, compressed once.

A browser that comes for the first time asks for all of them at once; none of these answers waits
for the disk or a thread. Pages themselves are not compressed: they hold secrets (the token against
forgery) beside what a request chose, and their length would tell of both together (BREACH).
"""

import gzip
import mimetypes
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SMALL_BYTES = 512
"""Below this, compressing saves nothing."""
_TEXT = ("text/", "application/javascript", "image/svg+xml")


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    """Compressed; empty where that would not help."""
    media_type: str


class Assets:
    """Serves the files of a folder as they were when the process began."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, below the path where this is mounted."""
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        name = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        found = self._files.get(name)
        if scope["method"] not in ("GET", "HEAD"):
            headers = {"Allow": "GET, HEAD", "Cache-Control": "no-store"}
            return Response(status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers=headers)
        if found is None:
            headers = {"Cache-Control": "no-store"}
            return Response("There is no such file.\n", HTTPStatus.NOT_FOUND, headers, "text/plain")
        headers = {"Vary": "Accept-Encoding"}
        is_packed = found.packed and "gzip" in Headers(scope=scope).get("accept-encoding", "")
        if is_packed:
            headers["Content-Encoding"] = "gzip"
        body = found.packed if is_packed else found.body
        return Response(body, headers=headers, media_type=found.media_type)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    packed = b""
    if kind.startswith(_TEXT) and len(body) > SMALL_BYTES:
        packed = gzip.compress(body, 9, mtime=0)
    return _File(body, packed, kind)
