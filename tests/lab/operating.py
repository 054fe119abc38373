"""What the tests of a whole product share: an operator's hands and eyes in a laboratory.

Units: seconds for timeouts and durations, CLOCK_BOOTTIME ns for instants.
"""

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from openmse.errors import MseError
from openmse.lab import checker, cleanup, client, linux, requirements, status
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.topology import IMAGE_ROOT, VIRTUAL_IP, Places, Topology
from openmse.lab.workload import WRITER, Workload

Told = dict[str, Any]
Done = subprocess.CompletedProcess[str]
NODES = ("mse1", "mse2")
OTHER = {"mse1": "mse2", "mse2": "mse1"}


class Site:
    """One laboratory as its operator sees it."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab

    # ------------------------------------------------------------------ commands

    def mse(self, machine: str, *words: str, typed: str = "", timeout_s: float = 90.0) -> Done:
        """Run an ``mse`` command on a machine; ``typed`` is its standard input."""
        return self.run(machine, "mse", *words, typed=typed, timeout_s=timeout_s)

    def run(self, machine: str, *argv: str, typed: str = "", timeout_s: float = 60.0) -> Done:
        """Run any command on a machine."""
        return self.lab.exec(machine, argv, timeout_s=timeout_s, input_text=typed)

    def ok(self, machine: str, *words: str, typed: str = "") -> str:
        """Run an ``mse`` command that has to succeed; what it printed."""
        done = self.mse(machine, *words, typed=typed)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.story()}"
        return done.stdout

    def refused(self, machine: str, *words: str, code: int, match: str, typed: str = "") -> Done:
        """Run a command that has to end with ``code`` and say ``match`` in an error of ours."""
        done = self.mse(machine, *words, typed=typed)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert match in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        return done

    # ------------------------------------------------------------------ looking

    def told(self, machine: str) -> Told:
        """What a node says of itself now; empty where it does not answer."""
        if not self.lab.has_power(machine):
            return {}
        return status.ask(self.lab, machine) or {}

    def register(self) -> Told:
        """The newest config that either node knows chosen."""
        found = [told["register"] for name in NODES if (told := self.told(name)).get("register")]
        return max(found, key=lambda r: (r["term"], r["epoch"]), default={})

    def mode_on(self, machine: str) -> str:
        """The mode of the newest config that a node knows chosen; '' where it does not answer."""
        return str((self.told(machine).get("register") or {}).get("mode", ""))

    def has_left(self, machine: str) -> bool:
        """Whether a node belongs to no group any more. WAITING by itself is also what one says that
        still stops its copy while it does not hear its owner."""
        told = self.told(machine)
        return told.get("state") == "WAITING" and not told.get("register")

    def owner(self) -> str:
        """Who owns by the newest config."""
        return str(self.register().get("owner", ""))

    def events(self, machine: str) -> str:
        """The event log of a node as text."""
        return self.mse(machine, "ha", "events").stdout

    def alarms(self, machine: str) -> set[str]:
        """The kinds of alarms that a node shows now."""
        return {alarm["kind"] for alarm in self.told(machine).get("alarms", ())}

    def findings(self, machine: str) -> dict[str, str]:
        """What the doctor finds: code to action."""
        import json

        done = self.mse(machine, "ha", "doctor", "--json")
        return {found["code"]: found["action"] for found in json.loads(done.stdout)}

    def story(self) -> str:
        """Status and events of both nodes, for a failed assertion."""
        words = []
        for name in NODES:
            if not self.lab.has_power(name):
                words.append(f"=== {name} has no power")
                continue
            for command in (("ha", "status"), ("ha", "events", "--since", "3m")):
                try:
                    done = self.mse(name, *command, timeout_s=10)
                except subprocess.TimeoutExpired:
                    words.append(f"=== {name} does not answer")
                    break
                words.append(f"=== {name}: {' '.join(command)}\n{done.stdout}{done.stderr}")
        return "\n".join(words)

    # ------------------------------------------------------------------ waiting

    def until(
        self,
        condition: Callable[[], object],
        what: str | Callable[[], str],
        timeout_s: float = 40.0,
    ) -> float:
        """Wait until ``condition`` holds; seconds it took. ``what``: for the failed test."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() > began + timeout_s:
                why = what if isinstance(what, str) else what()
                pytest.fail(f"Waited {timeout_s:.0f} s in vain until {why}.\n{self.story()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def until_answers(self, machine: str) -> None:
        """Wait until a node's daemon answers."""
        self.until(lambda: self.told(machine), f"{machine} answers")

    def until_mode(self, mode: str, timeout_s: float = 60.0) -> float:
        """Wait until both nodes know the newest config, it has this mode, and the copy follows."""

        def holds() -> bool:
            told = [self.told(name) for name in NODES]
            if any(not one.get("register") for one in told):
                return False
            if mode == "SYNC":
                self._forget_losses(told)
            kinds = {(one["register"]["epoch"], one["register"]["mode"]) for one in told}
            syncs = {one["sync"] for one in told}
            serves = any(one["role"] == "primary" and one["admits_clients"] for one in told)
            return (
                len(kinds) == 1 and {m for _, m in kinds} == {mode} and syncs == {"sync"} and serves
            )

        return self.until(holds, f"the pair is {mode}", timeout_s)

    def _forget_losses(self, told: list[Told]) -> None:
        """Make an owner that damps a flapping pair begin anew.

        Tests break a pair more often than the world does: each would wait, for longer and longer,
        because of the losses that others have caused. A restarted health monitor adopts all that
        runs, and has forgotten them.
        """
        for one in told:
            if "was flapping" in one["why_not"]["sync"]:
                self.lab.kill(one["node"], "health-monitor")

    def until_owner(self, machine: str, timeout_s: float = 40.0) -> float:
        """Wait until a machine owns and admits clients."""

        def holds() -> bool:
            told = self.told(machine)
            return told.get("role") == "primary" and bool(told.get("admits_clients"))

        return self.until(holds, f"{machine} serves", timeout_s)

    def until_sync(self, timeout_s: float = 40.0) -> float:
        """Wait until the pair is in SYNC and either node may own next."""
        took = self.until_mode("SYNC", timeout_s)

        def is_possible() -> bool:
            told = self.told(self.owner())
            return bool(told) and told["why_not"]["switchover"] == ""

        return took + self.until(is_possible, "a switchover is possible", timeout_s)

    def stop(self, machine: str, *options: str) -> None:
        """Stop a node on purpose, until nothing of it runs any more.

        The command returns when nobody answers. The health monitor and its guard end after that: a
        ``start`` in between would find nothing stopped, and what they still write is in the way.
        """
        self.ok(machine, "node", "stop", *options)
        self.until_ended(machine)

    def until_ended(self, machine: str) -> None:
        """Wait until nothing of a node runs."""
        self.until(lambda: not any(self.lab.pids(machine).values()), f"nothing of {machine} runs")

    def restart(self, machine: str) -> None:
        """Stop a node on purpose and start it again, as an operator does after a repair."""
        if self.lab.pids(machine)["health-monitor"]:
            self.stop(machine)
        self.until_ended(machine)
        self.start(machine)

    def start(self, machine: str) -> None:
        """What ``systemctl start`` does: start what was stopped on purpose."""
        assert self.run(machine, "kill", "-HUP", "1").returncode == 0

    def mended(self, owner: str = "") -> None:
        """Power and programs everywhere, cables healed, in SYNC; ``owner``: who has to own."""
        for name in self.lab.machines:
            if not self.lab.has_power(name):
                self.lab.power_on(name)
                continue
            self.lab.thaw(name, "all")
            if name in NODES and self.lab.pids(name)["health-monitor"] is None:
                self.start(name)
        self.lab.heal()
        self.until_sync(60)
        if owner and self.owner() != owner:
            self.ok(owner, "ha", "switchover", "--to", owner)
            self.until_sync()

    # ------------------------------------------------------------------ clients

    def sql(self, statement: str, *, host: str = VIRTUAL_IP, timeout_s: float = 20.0) -> Done:
        """A statement through the virtual IP (or its IPv6 one), as psql prints it."""
        dsn = client.dsn(self.lab.places)
        assert dsn is not None
        assert "sslmode=verify-full" in dsn
        quick = f"{dsn} host={host} connect_timeout=3"  # the last of two hosts counts
        return self.lab.exec("client", ["psql", quick, "-XAtqc", statement], timeout_s=timeout_s)

    def value(self, statement: str) -> str:
        """What a statement answers."""
        done = self.sql(statement)
        assert done.returncode == 0, done.stderr + self.story()
        return done.stdout.strip()

    def until_value(self, statement: str, wanted: str, timeout_s: float = 30.0) -> None:
        """Wait until a statement answers ``wanted``."""

        def holds() -> bool:
            done = self.sql(statement)
            return done.returncode == 0 and done.stdout.strip() == wanted

        self.until(holds, f"{statement} says {wanted}", timeout_s)

    @contextmanager
    def load(self) -> Iterator[Workload]:
        """A writer through the virtual IP; at the end nothing acknowledged may be lost."""
        dsn = client.dsn(self.lab.places)
        assert dsn is not None
        load = Workload(self.lab, dsn, f"r{secrets.token_hex(4)}")
        load.create_table()
        load.start(WRITER)
        try:
            self.until(lambda: load.acknowledged_since(0) > 20, "writes are acknowledged")
            yield load
            began = linux.now_ns()
            self.until(lambda: load.acknowledged_since(began) > 20, "writes are acknowledged again")
        finally:
            load.stop()
        verdict = checker.judge(load.writer.account(), load.rows())
        assert not verdict.violations, verdict.violations
        assert verdict.acknowledged > 40


@contextmanager
def site(
    topology: Topology = Topology.PAIR,
    *,
    failover_wait_s: float = 2.0,
    is_bare: bool = False,
    is_direct: bool = False,
) -> Iterator[Site]:
    """A laboratory of its own, always removed."""
    try:
        requirements.check(str(IMAGE_ROOT))
    except MseError as error:
        pytest.skip(str(error))
    name = f"tp{secrets.token_hex(4)}"
    wanted = Wanted(
        topology=topology, failover_wait_s=failover_wait_s, is_bare=is_bare, is_direct=is_direct
    )
    try:
        laboratory = Laboratory.up(name, wanted)
        yield Site(laboratory)
        laboratory.close()
    finally:
        cleanup.down(Places.of(name))


class OnePair:
    """The pair that tests of several files share: with a witness, failover wait 2 s.

    It is built when it is first asked for. Anew it is built where a test that failed has left other
    settings or voters, and after it could not be mended: that fails the test that asked (the pair
    is wedged, whoever did it), but no further one.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._site: Site | None = None
        self._made_as: Told = {}
        self._prepared: set[str] = set()

    def mended(self, owner: str = "") -> Site:
        """It with power everywhere, in SYNC, and owned by ``owner`` if that is given."""
        if self._site is not None and not self._is_mended(self._site, owner):
            self.close()
        if self._site is None:
            self._site = self._stack.enter_context(site())
            self._site.mended(owner)
            self._made_as = self._settled(self._site)
        return self._site

    def is_first(self, preparation: str) -> bool:
        """Whether this pair has not been prepared in this way; from now on it has."""
        is_first = preparation not in self._prepared
        self._prepared.add(preparation)
        return is_first

    def close(self) -> None:
        """Remove it."""
        self._site = None
        self._prepared.clear()
        self._stack.close()

    def _is_mended(self, at: Site, owner: str) -> bool:
        try:
            at.mended(owner)
        except BaseException:
            self.close()
            raise
        return self._settled(at) == self._made_as

    @staticmethod
    def _settled(at: Site) -> Told:
        return {key: at.register()[key] for key in ("settings", "voters", "primary")}
