"""Ends a run under load and judges it: rows, reads, presence, pgbench's sums."""

from dataclasses import dataclass
from pathlib import Path

from openmse.lab.checker import Account, Verdict, judge
from openmse.lab.presence_rules import DoublePresence, double_presences
from openmse.lab.stage import Stage
from openmse.lab.workload import wait_for

SHOWN = 5
REPLAY_S = 15.0
"""How long a standby may take to replay what it has flushed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All that the campaign, the bench and the demo hold against a run."""

    verdict: Verdict
    written: Account
    doubles: tuple[DoublePresence, ...]
    signs: int
    rows_read: int
    pgbench_transactions: int | None
    violations: tuple[str, ...]


def finish(stage: Stage, *, has_pgbench: bool = False) -> Judgement:
    """Stop the load of a pair that serves, and judge what its clients saw.

    Raises: DriverError if the final owner cannot be read.
    """
    load = stage.load
    broken = load.broken()
    load.stop()
    written, read = load.writer.account(), load.reader.account()
    verdict = judge(written, load.rows(), read)
    signs = load.signs()
    doubles = double_presences(signs)
    violations = [*verdict.violations, *broken]
    violations += [proof.sentence for proof in doubles[:SHOWN]]
    violations += _missing_on_peer(stage, written)
    if not written.acknowledged:
        violations.append("No write was acknowledged at all, so the run proves nothing.")
    if not any(sign.kind == "arp" for sign in signs):
        violations.append("The presence monitor heard nobody, so the run proves nothing.")
    transactions = None
    if has_pgbench:
        *sums, transactions = load.pgbench_sums()
        if len(set(sums)) != 1:
            violations.append(f"pgbench's sums differ, a transaction was torn: {sums}.")
    return Judgement(
        verdict=verdict,
        written=written,
        doubles=tuple(doubles),
        signs=len(signs),
        rows_read=len({number for entry in read.seen for number in entry.ids}),
        pgbench_transactions=transactions,
        violations=tuple(violations),
    )


def _missing_on_peer(stage: Stage, written: Account) -> list[str]:
    """I2: in SYNC, every acknowledged write is on the other node too."""
    peer = stage.other(stage.owner())
    acknowledged = {entry.id for entry in written.acknowledged}
    if wait_for(lambda: acknowledged <= stage.load.ids_on(peer), REPLAY_S, every_s=0.3):
        return []
    missing = sorted(acknowledged - stage.load.ids_on(peer))
    return [
        f"{len(missing)} acknowledged row(s) are not on {peer} although the pair is in SYNC: "
        f"{', '.join(map(str, missing[:SHOWN]))}."
    ]


def lost_between(judgement: Judgement, begin: int, end: int) -> int:
    """How many of the lost rows were acknowledged from ``begin`` up to ``end`` (ns)."""
    lost = frozenset(judgement.verdict.lost)
    return sum(begin <= ack.at < end and ack.id in lost for ack in judgement.written.acknowledged)


def keep_ledgers(stage: Stage, directory: Path) -> None:
    """Copy the clients' ledgers out of the laboratory, without their credentials."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in stage.load.directory.glob("*.jsonl"):
        (directory / path.name).write_bytes(path.read_bytes())
