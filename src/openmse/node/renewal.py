"""Keeping this node's certificates valid: looked at daily, renewed by a short-lived child.

The child loads ``cryptography``, which would cost the health monitor memory for good and a
heartbeat while it loads. Either node can renew its own: both hold the authority's key.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from openmse.errors import DriverError, MseError
from openmse.node.config import NodeConfig
from openmse.node.group import GroupInfo
from openmse.pki.files import read_file

FIRST_CHECK_S = 60.0
INTERVAL_S = 24 * 3600.0
RETRY_S = 3600.0
CHILD_TIMEOUT_S = 60.0


class Task(Struct, frozen=True):
    """What the child is told, on its standard input; no secret is in it."""

    config: NodeConfig
    group: GroupInfo
    now_s: float


class Result(Struct, frozen=True):
    """What the child answers, on its standard output: why it renewed, '' if it did not."""

    renewed: str = ""
    days_left: int | None = None
    """Until the first of this node's certificates ends, negative once it has; None: unknown."""
    error: str = ""
    hint: str = ""


def renew_if_due(task: Task) -> str:
    """Renew this node's certificates where there is a reason, and return it.

    Blocks for about 0.3 s. Raises StateError; each file is then either the old or the new one,
    and all of them work together, for the key stays.
    """
    from openmse.node.identity import issue_own, keyring, own_addresses
    from openmse.pki.authority import Subject, renewal_reason
    from openmse.pki.names import Identity, Role

    ring, me, group = keyring(task.config), task.config.node.name, task.group
    authority = read_file(ring.authority)
    server = ring.database / "server.crt"
    replication = ring.database / "replication.crt"
    addresses = own_addresses(task.config, group.virtual_ips)
    node = Subject(Identity(group.group, Role.NODE, me), (me,), addresses)
    database = Subject(Identity(group.group, Role.DATABASE, me), (me,), addresses)
    client = Subject(Identity(group.group, Role.REPLICATION, me))
    for path, subject in ((ring.certificate, node), (server, database), (replication, client)):
        certificate = read_file(path) if path.exists() else b""
        reason = renewal_reason(certificate, authority, subject, task.now_s)
        if reason:
            issue_own(task.config, group, authority, read_file(ring.authority_key))
            return reason
    return ""


def days_left(config: NodeConfig, now_s: float) -> int:
    """Whole days until the first of this node's certificates ends. Raises StateError."""
    from openmse.node.identity import keyring
    from openmse.pki.authority import describe
    from openmse.pki.renewal import DAY_S

    ring = keyring(config)
    paths = (ring.certificate, ring.database / "server.crt", ring.database / "replication.crt")
    ends = min(describe(read_file(path)).not_after_s for path in paths)
    return int((ends - now_s) // DAY_S)


class Renewals:
    """Looks at the certificates in a child process, at intervals; run it as a task.

    ``group``: the facts in force, None while unpaired. ``on_renewed(reason)``: have the links and
    PostgreSQL read their files again. ``on_failed(error)``: tell people; it is tried again.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        group: Callable[[], GroupInfo | None],
        on_renewed: Callable[[str], None],
        on_failed: Callable[[MseError], None],
    ) -> None:
        self._config = config
        self._group = group
        self._on_renewed = on_renewed
        self._on_failed = on_failed
        self.days_left: int | None = None
        """Until the first certificate ends, when it was last looked at; negative once it has, None
        where it was not looked at yet or cannot be read."""

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(FIRST_CHECK_S)
        while True:
            try:
                await self.check()
                wait_s = INTERVAL_S
            except MseError as error:
                self._on_failed(error)
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)

    async def check(self) -> None:
        """Look once; raises DriverError where the child failed."""
        group = self._group()
        if group is None:
            return
        result = await _run_child(Task(self._config, group, time.time()))
        self.days_left = result.days_left
        if result.error:
            raise DriverError(
                f"The certificates could not be renewed: {result.error}",
                result.hint,
                code="MSE-PKI-001",
            )
        if result.renewed:
            self._on_renewed(result.renewed)


async def _run_child(task: Task) -> Result:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "openmse.node.renewal",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(CHILD_TIMEOUT_S):
            answer, _ = await child.communicate(msgspec.json.encode(task))
        return msgspec.json.decode(answer, type=Result)
    except (TimeoutError, msgspec.MsgspecError) as error:
        raise DriverError(
            "The certificates could not be looked at: the child process did not answer.",
            "It is tried again in an hour; run 'mse ha doctor' if this stays.",
            code="MSE-PKI-002",
        ) from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def main() -> int:
    """The child: a ``Task`` in, a ``Result`` out."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        result = Result(renewed=renew_if_due(task))
    except MseError as error:
        result = Result(error=error.sentence, hint=error.hint)
    with contextlib.suppress(MseError):  # one that cannot be read is told as the failure above
        left = days_left(task.config, task.now_s)
        result = msgspec.structs.replace(result, days_left=left)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
