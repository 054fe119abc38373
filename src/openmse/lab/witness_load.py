"""How much one witness process costs: simulated nodes of many groups, real datagrams, loopback.

``python -m openmse.lab.witness_load`` prepares the groups on disk as enrolment does, starts the
real witness, lets two nodes of each group beat with the real protocol at default timing, and
tells the witness's CPU time (from /proc) and how long its answers took. Answer times contain this
program's own delays, which share the machine.
"""

import argparse
import asyncio
import heapq
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import MseError, StateError, UsageError
from openmse.ha import acceptor
from openmse.ha.messages import Beat, BeatAck, Message, Stamp, Standing
from openmse.ha.timing import timing
from openmse.ha.values import SECOND, Ballot, Config, Lineage, Mode, Settings, Voter
from openmse.node.control.client import ControlClient
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.node.drivers.store import Machine, RecordStore
from openmse.node.runtime.clock import now
from openmse.pki.authority import Authority, Subject, new_key, signing_request
from openmse.pki.names import Identity, Role
from openmse.wire.codec import VOTERS, Codec
from openmse.wire.datagrams import witness_root
from openmse.witness import groups
from openmse.witness.config import PathsPart, PortsPart, WitnessConfig, WitnessPart, as_toml
from openmse.witness.control import GroupsAnswer
from openmse.witness.groups import Credentials, GroupFacts

WITNESS = "witness"
NODES = ("mse1", "mse2")
START_WITHIN_S = 120.0
WARM_UP_S = 2.0
TICK_S = 0.002
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Load(Struct, frozen=True, kw_only=True):
    """What is simulated."""

    groups: int = 1000
    seconds: float = 10.0
    failover_wait_s: float = 5.0


class Result(Struct, frozen=True, kw_only=True):
    """What was measured. ``cores``: CPU time of the witness by wall time."""

    groups: int
    failover_wait_s: float
    seconds: float
    beats_per_s: float
    cores: float
    cpu_us_per_beat: float
    answered_percent: float
    granted_percent: float
    """Of the owners' beats."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    rss_mib: float

    def as_text(self) -> str:
        """In words."""
        return (
            f"One witness, {self.groups} groups at a failover wait of {self.failover_wait_s:g} s "
            f"({self.beats_per_s:.0f} beats/s) for {self.seconds:.1f} s:\n"
            f"  CPU     {self.cores:.3f} cores ({self.cpu_us_per_beat:.0f} us per beat)\n"
            f"  answers p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms, max "
            f"{self.max_ms:.2f} ms; {self.answered_percent:.2f} % answered, "
            f"{self.granted_percent:.2f} % of renewals granted\n"
            f"  memory  {self.rss_mib:.0f} MiB resident"
        )


def prepare(config: WitnessConfig, load: Load) -> dict[str, bytes]:
    """Put the groups on disk, as enrolment and a first chosen config leave them; their roots."""
    authority = Authority.create("load")
    roots = {f"g{number:04d}": os.urandom(32) for number in range(load.groups)}
    machine = Machine.read()

    def one(name: str) -> None:
        root = witness_root(roots[name], WITNESS)
        key = new_key()
        subject = Subject(Identity(name, Role.WITNESS, WITNESS))
        certificate = authority.issue(signing_request(key, WITNESS), subject)
        facts = GroupFacts(name, WITNESS, NODES, root)
        credentials = Credentials(certificate, key, authority.certificate_pem)
        groups.create(config.groups_dir, facts, credentials, "i-witness")
        store = RecordStore(config.groups_dir / name / "register", machine)
        stored = store.load()
        assert stored is not None
        ballot, value = Ballot(0, 1, NODES[0]), config_of(load)
        record = replace(
            stored.record,
            promised=ballot,
            accepted=ballot,
            value=value,
            chosen=ballot,
            known=value,
            largest_wait_ns=value.settings.failover_wait_ns,
        )
        for node in NODES:  # a pair that has been running: its nodes are remembered already
            record = acceptor.remember(record, stamp_of(node))
        store.save(record)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, roots))
    return {name: witness_root(key, WITNESS) for name, key in roots.items()}


def config_of(load: Load) -> Config:
    """The config of every group: SYNC, owned by the first node."""
    voters = (*(Voter(name, f"i-{name}") for name in NODES), Voter(WITNESS, "i-witness", True))
    settings = Settings(failover_wait_ns=round(load.failover_wait_s * SECOND))
    lineage = Lineage(0, 1, NODES[0])
    return Config(0, 1, Mode.SYNC, NODES[0], voters, lineage, settings, primary=NODES[0])


def stamp_of(node: str) -> Stamp:
    """How a node speaks."""
    return Stamp(node, f"i-{node}", 1, Ballot(0, 1, NODES[0]), run="r1")


class Nodes:
    """The same node of every group, on one socket: beats on time, answers timed."""

    def __init__(self, name: str, roots: dict[str, bytes], load: Load) -> None:
        self._name = name
        self._groups = tuple(roots)
        self._roots = roots
        self._load = load
        self._codec = Codec({VOTERS: Message})
        self._every_ns = timing(round(load.failover_wait_s * SECOND)).beat_ns
        self._udp = DatagramTransport(("127.0.0.1", 0), self._on_data)
        self._from_ns = now()
        self.sent = 0
        self.granted = 0
        self.answer_ns: list[int] = []

    def open(self, witness: tuple[str, int]) -> None:
        """Listen, and know the witness's address."""
        for group, root in self._roots.items():
            self._udp.set_group(group, self._name, {WITNESS: (root, witness)})
        self._udp.open()

    def close(self) -> None:
        """Fall silent."""
        self._udp.close()

    def begin(self) -> None:
        """Count from now on."""
        self._from_ns = now()
        self.sent = self.granted = 0
        self.answer_ns.clear()

    async def run(self) -> None:
        """Beat until cancelled, each group in a phase of its own."""
        began = now()
        due = [(began + random.randrange(self._every_ns), group) for group in self._groups]
        heapq.heapify(due)
        while True:
            at = now()
            while due[0][0] <= at:
                planned, group = due[0]
                heapq.heapreplace(due, (max(planned, at - self._every_ns) + self._every_ns, group))
                self._beat(group)
            await asyncio.sleep(TICK_S)

    def _beat(self, group: str) -> None:
        is_owner = self._name == NODES[0]
        sent_at = now()
        beat = Beat(
            stamp_of(self._name),
            sent_at,
            0,
            1,
            Ballot(0, 1, NODES[0]),
            NODES[0],
            is_owner,
            round(self._load.failover_wait_s * SECOND),
            Standing(
                Lineage(0, 1, NODES[0]),
                sent_at,
                is_complete=True,
                is_primary=is_owner,
                is_streaming=not is_owner,
                hears_witness=True,
                is_ready=True,
                software="0.1.0",
            ),
        )
        self._udp.send(group, WITNESS, self._codec.encode(beat, group=group, sender=self._name))
        self.sent += 1

    def _on_data(self, group: str, party: str, data: bytes) -> None:
        ack = self._codec.decode(data).message
        if isinstance(ack, BeatAck) and ack.nonce >= self._from_ns:
            self.answer_ns.append(now() - ack.nonce)
            self.granted += ack.is_granted


async def measure(folder: Path, load: Load, progress: Callable[[str], None]) -> Result:
    """Prepare, run and measure; the witness is ended in any case. Raises MseError."""
    config = WitnessConfig(
        witness=WitnessPart(name=WITNESS, address="127.0.0.1"),
        ports=PortsPart(witness_tls=0, witness_udp=0, pairing=0),
        paths=PathsPart(state_dir=str(folder / "state"), run_dir=str(folder / "run")),
    )
    progress(f"preparing {load.groups} groups")
    roots = await asyncio.to_thread(prepare, config, load)
    path = folder / "witness.toml"
    path.write_text(as_toml(config))
    progress("starting the witness")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openmse.witness", "--config", str(path)
    )
    try:
        answer = await wait_serving(config.control_socket, process, load.groups)
        host, port = answer.addresses["udp"]
        return await _beat(roots, load, (host, port), process.pid, progress)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def wait_serving(
    control: Path, process: asyncio.subprocess.Process, count: int
) -> GroupsAnswer:
    """Return once ``count`` groups are served; raises StateError."""
    deadline = asyncio.get_running_loop().time() + START_WITHIN_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            answer = await asyncio.to_thread(_ask, control)
        except MseError:
            await asyncio.sleep(0.1)
            continue
        if sum(row.is_served for row in answer.groups) == count:
            return answer
        await asyncio.sleep(0.2)
    raise StateError(f"The witness did not serve {count} groups within {START_WITHIN_S:g} s.")


def _ask(control: Path) -> GroupsAnswer:
    with ControlClient(control) as client:
        answer: GroupsAnswer = client.call("groups", type=GroupsAnswer)
        return answer


async def _beat(
    roots: dict[str, bytes],
    load: Load,
    witness: tuple[str, int],
    pid: int,
    progress: Callable[[str], None],
) -> Result:
    sides = [Nodes(name, roots, load) for name in NODES]
    tasks: list[asyncio.Task[None]] = []
    try:
        for side in sides:
            side.open(witness)
            tasks.append(asyncio.create_task(side.run()))
        await asyncio.sleep(WARM_UP_S)
        progress(f"measuring for {load.seconds:g} s")
        for side in sides:
            side.begin()
        began, cpu_before = now(), cpu_s(pid)
        await asyncio.sleep(load.seconds)
        cpu, wall_s = cpu_s(pid) - cpu_before, (now() - began) / SECOND
        sent, rss = sum(side.sent for side in sides), rss_bytes(pid)
        await asyncio.sleep(0.2)  # answers that are still under way
        return _result(load, sides, sent=sent, wall_s=wall_s, cpu=cpu, rss=rss)
    finally:
        for task in tasks:
            task.cancel()
        for side in sides:
            side.close()


def _result(
    load: Load, sides: list[Nodes], *, sent: int, wall_s: float, cpu: float, rss: int
) -> Result:
    times = sorted(time_ns for side in sides for time_ns in side.answer_ns)
    if not times or not sent:
        raise StateError("The witness answered nothing.")
    total, owners = sum(side.sent for side in sides), sides[0]
    return Result(
        groups=load.groups,
        failover_wait_s=load.failover_wait_s,
        seconds=round(wall_s, 3),
        beats_per_s=round(sent / wall_s, 1),
        cores=round(cpu / wall_s, 4),
        cpu_us_per_beat=round(cpu * 1e6 / sent, 1),
        answered_percent=round(100 * min(1.0, len(times) / total), 3),
        granted_percent=round(100 * min(1.0, owners.granted / max(1, owners.sent)), 3),
        p50_ms=_ms(times, 0.50),
        p99_ms=_ms(times, 0.99),
        max_ms=_ms(times, 1.0),
        rss_mib=round(rss / 2**20, 1),
    )


def _ms(times: list[int], part: float) -> float:
    return round(times[min(len(times) - 1, int(len(times) * part))] / 1e6, 3)


def cpu_s(pid: int) -> float:
    """User and system time that the process has used, in seconds (/proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Resident memory of the process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 also where the figure is bad: judging it is the caller's part."""
    parser = argparse.ArgumentParser(prog="witness_load", description=__doc__)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--failover-wait", type=float, default=5.0, metavar="S")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="'-' for stdout")
    options = parser.parse_args(arguments)
    load = Load(
        groups=options.groups, seconds=options.seconds, failover_wait_s=options.failover_wait
    )
    try:
        if not 1 <= load.groups <= 4000 or not 0.5 <= load.seconds <= 3600:
            raise UsageError("1 to 4000 groups, 0.5 to 3600 seconds.")
        with tempfile.TemporaryDirectory(prefix="openmse-witness-load-") as folder:
            result = asyncio.run(measure(Path(folder), load, _progress))
    except MseError as error:
        print(f"{error.code}: {error.sentence} {error.hint}", file=sys.stderr)
        return error.exit_code
    print(result.as_text(), file=sys.stderr if options.json == Path("-") else sys.stdout)
    if options.json is not None:
        data = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
        if options.json == Path("-"):
            sys.stdout.write(data.decode())
        else:
            options.json.write_bytes(data)
    return 0


def _progress(sentence: str) -> None:
    print(f"witness load: {sentence} ...", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
