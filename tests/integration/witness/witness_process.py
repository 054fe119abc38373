"""A real witness process, and the node's side of real groups, for the tests."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from etcd_nodes import sync_config

from openmse.errors import MseError
from openmse.ha.messages import (
    DATAGRAMS,
    Accept,
    Accepted,
    Beat,
    BeatAck,
    Learn,
    Message,
    PreVote,
    PreVoteAnswer,
    Read,
    Stamp,
    Standing,
)
from openmse.ha.values import SECOND, Ballot, Config, Mode, Voter
from openmse.node.control.client import ControlClient
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.node.runtime.clock import now
from openmse.pki.authority import Authority, Subject, new_key, signing_request
from openmse.pki.names import Identity, Role
from openmse.pki.pairing import PairingOffer, PairingResult, pair_with
from openmse.pki.password import PairingStore
from openmse.wire.codec import VOTERS, Codec
from openmse.wire.datagrams import witness_root
from openmse.witness.config import PathsPart, PortsPart, WitnessConfig, WitnessPart, as_toml
from openmse.witness.control import ForgetArgs, GroupRow, GroupsAnswer

PASSWORD = "an enrolment password"
WITNESS = "witness"
WAIT_NS = 2 * SECOND
DEADLINE_S = 20.0


class HasConfig(Protocol):
    """A witness that runs, by whomever."""

    config: WitnessConfig


def status_of(config: WitnessConfig) -> GroupsAnswer:
    """What the witness of a configuration says of itself."""
    with ControlClient(config.control_socket) as client:
        answer: GroupsAnswer = client.call("groups", type=GroupsAnswer)
        return answer


class WitnessProcess:
    """One witness with its state; may be killed and started again."""

    def __init__(self, folder: Path, *, small_disk: bool = False) -> None:
        self.config = WitnessConfig(
            witness=WitnessPart(name=WITNESS, address="127.0.0.1"),
            ports=PortsPart(witness_tls=0, witness_udp=0, pairing=0),
            paths=PathsPart(state_dir=str(folder / "state"), run_dir=str(folder / "run")),
        )
        self.path = folder / "witness.toml"
        self.path.write_text(as_toml(self.config))
        self.log = folder / "log"
        self._small_disk = small_disk
        self._process: subprocess.Popen[bytes] | None = None
        self.config.groups_dir.mkdir(parents=True)
        PairingStore(self.config.password_file).set_password(PASSWORD)

    async def start(self) -> "WitnessProcess":
        """Start it and wait until it answers."""
        self._process = process = await asyncio.to_thread(self._spawn)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                assert process.poll() is None, self.log.read_text()
                try:
                    await asyncio.to_thread(self.status)
                    return self
                except MseError:
                    await asyncio.sleep(0.02)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "openmse.witness", "--config", str(self.path)]
        if self._small_disk:  # in a mount namespace of its own, which ends with it
            mount = f"mount -t tmpfs -o size=256k none {self.config.groups_dir}"
            script = f'{mount} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def fill_disk(self) -> None:
        """Leave no room on the small disk."""
        with self._filling.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1024)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free_disk(self) -> None:
        """Make room again."""
        self._filling.unlink()

    @property
    def _filling(self) -> Path:
        assert self._process is not None
        assert self._small_disk
        return Path(f"/proc/{self._process.pid}/root{self.config.groups_dir}/filling")

    def status(self) -> GroupsAnswer:
        """What it says of itself."""
        return status_of(self.config)

    def row(self, group: str) -> GroupRow:
        """What it says of one group."""
        return next(row for row in self.status().groups if row.group == group)

    def forget(self, group: str) -> None:
        """``mse witness forget``."""
        with ControlClient(self.config.control_socket) as client:
            client.call("forget", ForgetArgs(group))

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an administrator would; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(DEADLINE_S)
        self._process = None
        return status


class Group:
    """A group's secrets, as its nodes hold them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.key = os.urandom(32)
        self.authority = Authority.create(name)

    async def enrol(
        self, witness: HasConfig, me: str = "mse1", password: str = PASSWORD
    ) -> PairingResult:
        """Enrol at the witness; raises PairingError."""
        offer = PairingOffer(
            kind=Role.WITNESS,
            me=me,
            software="0.1.0",
            group=self.name,
            authority_certificate=self.authority.certificate_pem,
            authority_key=self.authority.key_pem,
            heartbeat_key=self.key,
        )
        host, port = (await asyncio.to_thread(status_of, witness.config)).addresses["pairing"]
        return await pair_with(host, port, password, offer)

    def files(self, node: str) -> TlsFiles:
        """A node's key and certificate."""
        key = new_key()
        identity = Identity(self.name, Role.NODE, node)
        certificate = self.authority.issue(signing_request(key, node), Subject(identity))
        base = self.folder / f"{self.name}-{node}"
        base.mkdir(exist_ok=True)
        files = TlsFiles(base / "crt", base / "key", base / "ca")
        files.certificate.write_bytes(certificate)
        files.key.write_bytes(key)
        files.authority.write_bytes(self.authority.certificate_pem)
        return files


class NodeSide:
    """One node's transports to the witness, and what the witness answered."""

    def __init__(self, group: Group, name: str, incarnation: str = "") -> None:
        self.name = name
        self.group = group
        self.stamp = Stamp(name, incarnation or f"i-{name}", 1)
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self._codec = Codec({VOTERS: Message})
        self.udp = DatagramTransport(("127.0.0.1", 0), self._on_data)
        self.mesh = TlsMesh(
            ("127.0.0.1", 0), on_message=self._on_data, on_link=lambda *_: self._linked.set()
        )
        self._linked = asyncio.Event()

    async def connect(self, witness: WitnessProcess) -> "NodeSide":
        """Listen and dial; returns when the link is up."""
        self.udp.open()
        await self.mesh.open()
        await self.reconnect(witness)
        return self

    async def reconnect(self, witness: WitnessProcess) -> None:
        """Know the witness's present ports; returns when the link is up."""
        addresses = witness.status().addresses
        root = witness_root(self.group.key, WITNESS)
        name, files = self.group.name, self.group.files(self.name)
        self.udp.set_group(name, self.name, {WITNESS: (root, tuple(addresses["udp"]))})
        parties = {WITNESS: (Role.WITNESS, tuple(addresses["tls"]))}
        self._linked.clear()
        self.mesh.set_group(MeshGroup(group=name, files=files, parties=parties))
        async with asyncio.timeout(DEADLINE_S):
            while not self.mesh.is_up(name, WITNESS):
                await self._linked.wait()
                self._linked.clear()

    async def close(self) -> None:
        """Hang up."""
        self.udp.close()
        await self.mesh.close()

    def send(self, message: Message) -> None:
        """Send as a node does."""
        data = self._codec.encode(message, group=self.group.name, sender=self.name)
        if isinstance(message, DATAGRAMS):
            self.udp.send(self.group.name, WITNESS, data)
        else:
            self.mesh.send(self.group.name, WITNESS, data)

    async def ask(self, message: Message, kind: Any) -> Any:
        """Send, and wait for an answer of a kind; others are dropped."""
        while not self.answers.empty():
            self.answers.get_nowait()
        self.send(message)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answer = await self.answers.get()
                if isinstance(answer, kind):
                    return answer

    async def renew(self, config: Config, *, wants: bool = True, wait_ns: int = WAIT_NS) -> BeatAck:
        """Beat, and wait for the acknowledgement of this very beat."""
        beat = Beat(
            self.stamp,
            now(),
            config.term,
            config.epoch,
            Ballot(0, 99, "z"),
            config.owner,
            wants,
            wait_ns,
            Standing(),
        )
        while True:
            ack: BeatAck = await self.ask(beat, BeatAck)
            if ack.nonce == beat.nonce:
                return ack

    async def pre_vote(self, config: Config) -> PreVoteAnswer:
        """Ask "would you?"."""
        question = PreVote(self.stamp, 1, config.term, config.epoch, self.name)
        answer: PreVoteAnswer = await self.ask(question, PreVoteAnswer)
        return answer

    async def teach(self, config: Config, round_: int = 1) -> None:
        """Have the witness accept and learn ``config``."""
        ballot = Ballot(0, round_, "mse1")
        await self.ask(Accept(self.stamp, ballot, config, None), Accepted)
        self.send(Learn(self.stamp, ballot, config))
        await self.ask(Read(self.stamp, Ballot()), Learn)

    def _on_data(self, group: str, party: str, data: bytes) -> None:
        self.answers.put_nowait(self._codec.decode(data).message)


def config_for(incarnation: str, *, owner: str = "mse1", epoch: int = 1) -> Config:
    """SYNC with the witness under ``incarnation``."""
    from msgspec.structs import replace

    voters = (*sync_config().voters[:2], Voter(WITNESS, incarnation, is_witness=True))
    return replace(sync_config(owner, epoch), voters=voters, mode=Mode.SYNC)


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; it may block for a moment."""
    async with asyncio.timeout(DEADLINE_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)
