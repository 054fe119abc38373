"""The few calls of etcd's v3 HTTP/JSON gateway that the driver needs, each with a deadline.

Reads are linearizable (the gateway's default; ``serializable`` is never set), which the safety
argument in docs/adr rests on. It knows nothing of groups, leases or votes.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from openmse.errors import ConfigError, DriverError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
API_VERSION = "v3"
WATCH_IDLE_S = 30.0
"""A watch that says nothing for so long is begun anew: nobody may be at the other end."""
UNAUTHENTICATED = 16
"""gRPC status code: the token is missing, wrong or too old."""


class EtcdError(DriverError):
    """etcd did not answer, or answered that it cannot."""

    code = "MSE-ETC-001"


class EtcdSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a site's etcd.

    ``voter``: the name under which etcd is the group's witness. ``prefix``: below which all keys
    lie, one folder for each group. Certificates are PEM files; a user name needs a password file.
    """

    endpoints: tuple[str, ...]
    voter: str = "etcd"
    prefix: str = "/openmse/"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    request_timeout_s: float = 0.5


class KeyValue(Struct, frozen=True):
    """One key as read: its bytes and the revision of etcd that last changed it."""

    value: bytes
    mod_revision: int


class Reading(Struct, frozen=True):
    """Keys read at one revision of etcd; an absent key is missing from ``keys``."""

    cluster: str
    """etcd's id of the cluster: another one after a restore from a snapshot."""
    revision: int
    keys: Mapping[str, KeyValue]


class TxnResult(Struct, frozen=True):
    """What became of a transaction; ``reading`` is of the keys before it where it failed."""

    is_done: bool
    reading: Reading
    """Where ``is_done``: no keys; ``revision`` is the one that every put in it got."""


class _Header(Struct):
    cluster_id: str = "0"
    revision: str = "0"


class _Pair(Struct):
    key: str
    mod_revision: str = "0"
    value: str = ""


class _RangeAnswer(Struct):
    header: _Header = msgspec.field(default_factory=_Header)
    kvs: list[_Pair] = msgspec.field(default_factory=list)


class _OneAnswer(Struct):
    response_range: _RangeAnswer | None = None


class _TxnAnswer(Struct):
    header: _Header
    succeeded: bool = False
    responses: list[_OneAnswer] = msgspec.field(default_factory=list)


class _Event(Struct):
    kv: _Pair
    type: str = "PUT"


class _Watched(Struct):
    header: _Header = msgspec.field(default_factory=_Header)
    events: list[_Event] = msgspec.field(default_factory=list)


class _WatchLine(Struct):
    result: _Watched | None = None


class _AuthAnswer(Struct):
    token: str


class _Failure(Struct):
    error: str = ""
    message: str = ""
    code: int = 0


def _b64(data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.b64encode(raw).decode("ascii")


def _range_of(prefix: str) -> dict[str, str]:
    end = prefix.encode()
    end = end[:-1] + bytes((end[-1] + 1,))
    return {"key": _b64(prefix), "range_end": _b64(end)}


def _reading(header: _Header, pairs: Sequence[_Pair]) -> Reading:
    """What was answered; a key that is no text is somebody else's. Raises: EtcdError."""
    try:
        keys = {
            base64.b64decode(pair.key).decode(errors="replace"): KeyValue(
                base64.b64decode(pair.value), int(pair.mod_revision)
            )
            for pair in pairs
        }
        return Reading(header.cluster_id, int(header.revision), keys)
    except ValueError as error:
        raise EtcdError(f"etcd answered what makes no sense ({error}).") from error


def _tls(settings: EtcdSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificates for etcd cannot be used: {error}.",
            "Check ca_file, cert_file and key_file of the etcd witness.",
        ) from error
    return context


class EtcdClient:
    """Talks to the first endpoint that answers; changes to the next one after a failure.

    Use as an asynchronous context manager. All methods raise EtcdError.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise ConfigError("The etcd witness has no endpoints.", "Set endpoints to a list.")
        self._settings = settings
        self._at = 0
        self._token = ""
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> "EtcdClient":
        import httpx  # here: it costs 0.1 s, which a node without etcd does not pay

        is_tls = any(e.startswith("https:") for e in self._settings.endpoints)
        self._http = httpx.AsyncClient(
            verify=_tls(self._settings) if is_tls else False,
            timeout=self._settings.request_timeout_s,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()

    @property
    def endpoint(self) -> str:
        """The endpoint that the next call goes to."""
        return self._settings.endpoints[self._at]

    async def read(self, prefix: str) -> Reading:
        """All keys below ``prefix``, linearizably."""
        answer = await self._call("kv/range", _range_of(prefix), _RangeAnswer)
        return _reading(answer.header, answer.kvs)

    async def swap(
        self, prefix: str, expected: Mapping[str, int], puts: Mapping[str, bytes]
    ) -> TxnResult:
        """Put ``puts``, all or none, if each key still has the mod revision in ``expected``.

        0 expects the key to be absent. Where one differs, nothing is put and the keys below
        ``prefix`` are read instead. After EtcdError it may have been done or not.
        """
        body = {
            "compare": [
                {"key": _b64(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(rev)}
                for key, rev in expected.items()
            ],
            "success": [
                {"request_put": {"key": _b64(key), "value": _b64(value)}}
                for key, value in puts.items()
            ],
            "failure": [{"request_range": _range_of(prefix)}],
        }
        answer = await self._call("kv/txn", body, _TxnAnswer)
        ranges = [r.response_range for r in answer.responses if r.response_range is not None]
        pairs = ranges[0].kvs if ranges else []
        return TxnResult(answer.succeeded, _reading(answer.header, pairs))

    async def watch(self, key: str, on_put: Callable[[Reading], None]) -> None:
        """Tell of each put of ``key`` as soon as etcd does; ends only by an error or cancelled.

        ``on_put`` gets a reading of this key alone. Nothing is told twice, but some may be
        missed around the beginning.
        """
        import httpx

        http, endpoint = self._open_http, self.endpoint
        body = msgspec.json.encode({"create_request": {"key": _b64(key)}})
        timeout = httpx.Timeout(self._settings.request_timeout_s, read=WATCH_IDLE_S)
        url, headers = f"{endpoint}/{API_VERSION}/watch", self._headers()
        try:
            async with http.stream(
                "POST", url, content=body, headers=headers, timeout=timeout
            ) as answer:
                async for line in answer.aiter_lines():
                    told = msgspec.json.decode(line, type=_WatchLine).result
                    if told is None:
                        raise EtcdError(f"etcd at {endpoint} refused to tell of changes.")
                    for event in told.events:
                        if event.type == "PUT":
                            on_put(_reading(told.header, [event.kv]))
        except (httpx.HTTPError, OSError, msgspec.MsgspecError, ValueError) as error:
            raise EtcdError(f"etcd at {endpoint} stopped telling of changes: {error!r}.") from error
        raise EtcdError(f"etcd at {endpoint} stopped telling of changes.")

    async def _call(self, path: str, body: object, answer: type[T]) -> T:
        if self._settings.username and not self._token:
            self._token = (await self._post("auth/authenticate", self._login(), _AuthAnswer)).token
        return await self._post(path, body, answer)

    @property
    def _open_http(self) -> "httpx.AsyncClient":
        assert self._http is not None, "used outside of its context"
        return self._http

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    def _login(self) -> dict[str, str]:
        try:
            password = Path(self._settings.password_file).read_text("utf-8").strip()
        except OSError as error:
            raise EtcdError(
                f"The password file for etcd cannot be read: {error.strerror}.",
                "Check password_file of the etcd witness.",
                is_retryable=False,
            ) from error
        return {"name": self._settings.username, "password": password}

    async def _post(self, path: str, body: object, answer: type[T]) -> T:
        import httpx

        url = f"{self.endpoint}/{API_VERSION}/{path}"
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                response = await self._open_http.post(
                    url, content=msgspec.json.encode(body), headers=self._headers()
                )
        except (httpx.HTTPError, OSError, httpx.InvalidURL) as error:
            raise self._failed(repr(error)) from error
        if response.status_code != 200:
            raise self._failed(self._reason(response.content, response.status_code))
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.MsgspecError as error:
            raise self._failed(f"it answered something unknown ({error})") from error

    def _reason(self, content: bytes, status: int) -> str:
        try:
            failure = msgspec.json.decode(content, type=_Failure)
        except msgspec.MsgspecError:
            return f"it answered with HTTP status {status}"
        if failure.code == UNAUTHENTICATED:
            self._token = ""
        return failure.error or failure.message or f"HTTP status {status}"

    def _failed(self, why: str) -> EtcdError:
        endpoint = self.endpoint
        self._at = (self._at + 1) % len(self._settings.endpoints)
        return EtcdError(
            f"etcd at {endpoint} did not do what was asked: {why}.",
            "The service goes on without this witness; check that etcd is up and reachable.",
        )
