"""The clients that measure an outage: a writer, a reader, and an ordinary libpq client beside them.

Run on the client machine as ``python -m openmse.lab.writer ROLE --conninfo-file F --ledger L``.

*writer*: sends one row every 5 ms on one connection. An attempt unanswered for 100 ms is abandoned
(its row counts as unknown and is never sent again) and a new connection is opened; its deadlines
are its own, as libpq's are coarser. No spare connection is kept: what is measured includes TCP,
TLS and authentication towards the new owner. A COMMIT with a warning is no acknowledgement.
*reader*: reads through the virtual IP what the writer wrote; every row ever shown must stay.
*ordinary*: a plain blocking libpq connection with ``tcp_user_timeout`` of 1 s and keepalives each
second, for comparison.

Units: milliseconds in options; ledger instants as in ``openmse.lab.ledger``.
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import psycopg

from openmse.lab.ledger import (
    Acknowledged,
    Connected,
    Ended,
    Ledger,
    Lost,
    Refused,
    Seen,
    Started,
    Unknown,
    now_ns,
)
from openmse.lab.libpq import Answer, Link, LinkLost, Patience, connect

CREATE = """
CREATE TABLE IF NOT EXISTS lab_writes (
    run text NOT NULL,
    id bigint NOT NULL,
    sent_ns bigint NOT NULL,
    serial bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX IF NOT EXISTS lab_writes_run_id ON lab_writes (run, id);
"""
"""No unique constraint on purpose: a row that is there twice shall be seen, not refused."""

INSERT = (
    b"INSERT INTO lab_writes (run, id, sent_ns) VALUES ($1, $2, $3) "
    b"RETURNING serial, current_setting('cluster_name')"
)
SELECT = (
    b"SELECT id, current_setting('cluster_name') FROM lab_writes "
    b"WHERE run = $1 AND id > $2 ORDER BY id"
)
READ_BACK = 500
"""Rows behind the newest that a read looks at again: abandoned writes may commit late."""
ORDINARY_TIMEOUT_MS = 1000
MS = 1_000_000


class Client:
    """What the writer and the reader share: a connection that is replaced when it fails."""

    def __init__(self, conninfo: str, run: str, ledger: Ledger, patience: Patience) -> None:
        self.conninfo = conninfo.encode()
        self.run = run.encode()
        self.ledger = ledger
        self.patience = patience
        self._link: Link | None = None
        self._given_up_at = now_ns()

    async def link(self) -> Link:
        """The connection, opened if need be."""
        if self._link is None:
            self._link = await connect(self.conninfo, self.patience)
            at = now_ns()
            self.ledger.add(Connected(at, (at - self._given_up_at) / MS))
        return self._link

    async def ask(self, statement: bytes, values: list[bytes | None]) -> Answer:
        """Run one statement on the connection. Raises: LinkLost, having dropped it."""
        link = await self.link()
        try:
            answer = await link.run(statement, values, self.patience.silence_s)
        except LinkLost as lost:
            self.drop(str(lost))
            raise
        if answer.is_fatal:
            self.drop(answer.error)
        return answer

    def drop(self, why: str) -> None:
        """Give the connection up."""
        if self._link is not None:
            self._link.close()
            self._link = None
            self._given_up_at = now_ns()
            self.ledger.add(Lost(self._given_up_at, why))

    async def begin(self, name: str) -> None:
        """Note the start, and what one undisturbed connection costs this client."""
        before = now_ns()
        await self.link()
        self.ledger.add(Started(now_ns(), name, (now_ns() - before) / MS))


class Writer:
    """Sends rows, and notes of each what became of it."""

    def __init__(self, client: Client, period_s: float, first_id: int = 1) -> None:
        self._client = client
        self._period_s = period_s
        self._next_id = first_id

    async def run(self) -> None:
        """Write until cancelled."""
        await self._client.begin("writer")
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._client.link()
            await asyncio.sleep(due - loop.time())
            due = max(due + self._period_s, loop.time())
            await self.write_one()

    async def write_one(self) -> None:
        """Send the next row and note its fate."""
        number, self._next_id = self._next_id, self._next_id + 1
        sent = now_ns()
        values: list[bytes | None] = [self._client.run, b"%d" % number, b"%d" % sent]
        ledger = self._client.ledger
        answer: Answer | None = None
        why = "the writer was stopped"
        try:
            answer = await self._client.ask(INSERT, values)
        except LinkLost as lost:
            why = str(lost)
        finally:
            if answer is None:
                ledger.add(Unknown(number, sent, now_ns(), why))
        if answer is not None:
            self._note(number, sent, answer)

    def _note(self, number: int, sent: int, answer: Answer) -> None:
        at = now_ns()
        if answer.warnings:
            fate = Unknown(number, sent, at, answer.warnings[0], is_warning=True)
            self._client.ledger.add(fate)
        elif answer.error and answer.is_fatal:
            self._client.ledger.add(Unknown(number, sent, at, answer.error))
        elif answer.error:
            self._client.ledger.add(Refused(number, sent, at, answer.error))
            self._client.drop("refused: another server may accept")
        else:
            serial, by = answer.rows[0]
            self._client.ledger.add(
                Acknowledged(number, sent, at, int(serial or b"0"), (by or b"").decode())
            )


class Reader:
    """Reads what is visible through the virtual IP and notes each row it is shown."""

    def __init__(self, client: Client, period_s: float) -> None:
        self._client = client
        self._period_s = period_s
        self._seen: set[int] = set()

    async def run(self) -> None:
        """Read until cancelled."""
        await self._client.begin("reader")
        while True:
            with contextlib.suppress(LinkLost):
                await self.read_once()
            await asyncio.sleep(self._period_s)

    async def read_once(self) -> None:
        """Look at the newest rows once. Raises: LinkLost."""
        floor = max(self._seen, default=0) - READ_BACK
        answer = await self._client.ask(SELECT, [self._client.run, b"%d" % max(floor, 0)])
        if answer.error:
            self._client.drop(answer.error)
            return
        shown = {int(row[0] or b"0") for row in answer.rows}
        fresh = sorted(shown - self._seen)
        if fresh:
            by = (answer.rows[0][1] or b"").decode()
            self._client.ledger.add(Seen(now_ns(), fresh, by))
            self._seen = {i for i in self._seen | shown if i > floor}


def ordinary(conninfo: str, run: str, ledger: Ledger, period_s: float) -> None:
    """Write as a plain program does: blocking, libpq's own limits, until SIGTERM."""
    # Keepalives, too: the user timeout alone counts only while something sent is unacknowledged,
    # and a client that waits for an answer would wait for hours.
    limits = f" tcp_user_timeout={ORDINARY_TIMEOUT_MS} connect_timeout=2"
    limits += " keepalives_idle=1 keepalives_interval=1"
    number, before = 0, now_ns()
    while True:
        try:
            with psycopg.connect(conninfo + limits, autocommit=True) as connection:
                ledger.add(Connected(now_ns(), (now_ns() - before) / MS))
                if not number:
                    ledger.add(Started(now_ns(), "ordinary"))
                warnings: list[str] = []
                connection.add_notice_handler(partial(_collect_warning, warnings))
                while True:
                    number += 1
                    ledger.add(_write_ordinary(connection, run, number, warnings))
                    time.sleep(period_s)
        except psycopg.Error as error:
            before = now_ns()
            ledger.add(Lost(before, str(error).strip()))
            time.sleep(period_s)


def _collect_warning(warnings: list[str], notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized == "WARNING":
        warnings.append(notice.message_primary or "")


def _write_ordinary(
    connection: psycopg.Connection, run: str, number: int, warnings: list[str]
) -> Acknowledged | Unknown:
    sent = now_ns()
    row = connection.execute(INSERT_ORDINARY, (run, number, sent)).fetchone()
    if warnings:
        return Unknown(number, sent, now_ns(), warnings.pop(), is_warning=True)
    serial, by = row or (0, "")
    return Acknowledged(number, sent, now_ns(), serial, by)


INSERT_ORDINARY = (
    "INSERT INTO lab_writes (run, id, sent_ns) VALUES (%s, %s, %s) "
    "RETURNING serial, current_setting('cluster_name')"
)


class _Stop(BaseException):
    """SIGTERM arrived."""


async def _until_told(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run ``work`` until SIGTERM or SIGINT, then cancel it and wait for it."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m openmse.lab.writer")
    roles = ("create", "writer", "reader", "ordinary", "dump", "tpcb")
    parser.add_argument("role", choices=roles)
    parser.add_argument("--conninfo-file", type=Path, required=True)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--run", default="run")
    parser.add_argument("--period-ms", type=float, default=5.0)
    parser.add_argument("--deadline-ms", type=float, default=100.0)
    parser.add_argument("--attempts", type=int, default=Patience().attempts)
    return parser.parse_args()


def _on_term(_number: int, _frame: object) -> None:
    raise _Stop


def _run_ordinary(options: argparse.Namespace, conninfo: str, ledger: Ledger) -> None:
    signal.signal(signal.SIGTERM, _on_term)
    with contextlib.suppress(_Stop):
        ordinary(conninfo, f"{options.run}-ordinary", ledger, options.period_ms / 1000)


def _run_measuring(options: argparse.Namespace, conninfo: str, ledger: Ledger) -> None:
    gc.freeze()
    gc.disable()  # nothing here makes cycles in bulk, and a collection would look like an outage
    patience = Patience(silence_s=options.deadline_ms / 1000, attempts=options.attempts)
    client = Client(conninfo, options.run, ledger, patience)
    period_s = options.period_ms / 1000
    worker = Writer(client, period_s) if options.role == "writer" else Reader(client, period_s)
    asyncio.run(_until_told(worker.run))
    client.drop("stopped")


def _create(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(CREATE.encode())


def _dump(conninfo: str, run: str) -> None:
    """Print ``id serial`` of each row of a run, as the server that answers has them."""
    with psycopg.connect(conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, serial FROM lab_writes WHERE run = %s", (run,))
        for number, serial in cursor:
            print(number, serial)


def _sum_pgbench(conninfo: str) -> None:
    """Print the four sums that TPC-B keeps equal, and the number of transactions."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts),"
            " (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches),"
            " (SELECT coalesce(sum(delta), 0) FROM pgbench_history),"
            " (SELECT count(*) FROM pgbench_history)"
        ).fetchone()
        print(*(row or ()))


def main() -> None:
    """Run one role until told to stop."""
    options = _arguments()
    conninfo = options.conninfo_file.read_text().strip()
    if options.role == "create":
        return _create(conninfo)
    if options.role == "tpcb":
        return _sum_pgbench(conninfo)
    if options.role == "dump":
        return _dump(conninfo, options.run)
    ledger = Ledger(options.ledger)
    if options.role == "ordinary":
        _run_ordinary(options, conninfo, ledger)
    else:
        _run_measuring(options, conninfo, ledger)
    ledger.add(Ended(now_ns()))
    ledger.close()
    return None


if __name__ == "__main__":
    main()
