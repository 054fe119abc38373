"""Scenarios as text: commands, ``----``, and what became of them, tick by tick.

    python tests/scenarios/runner.py --rewrite

writes the traces anew; the difference is for a person to review. A tick is 250 ms and the failover
wait 1 s, so a lease is three ticks. The world is that of the explorer, run without chance.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from openmse.ha import events as ev
from openmse.ha.invariants import describe
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration.explorer import fair
from openmse.lab.exploration.steps import TICK_NS, Steps
from openmse.lab.exploration.world import KINDS

HERE = Path(__file__).parent
STARTS: dict[str, Callable[[], Steps]] = {
    "sync": at.sync,
    "alone": at.alone,
    "pinned": at.pinned,
    "blackout-sync": at.blackout,
    "blackout-alone": at.blackout_alone,
    "pair": at.pair_pinned,
    "pair-protect": at.pair_protect,
    "pair-fencing": at.pair_fencing,
}


class Play:
    """One scenario being played."""

    def __init__(self) -> None:
        self.world = at.sync()
        self.began = 0
        self.lines: list[str] = []
        self.shown = ""
        self.serving: dict[str, bool] = {}

    def run(self, commands: list[str]) -> str:
        """Play the commands; the trace."""
        for command in commands:
            words = command.split()
            if words[0] == "start":
                self._start(words[1])
                continue
            self.lines.append(f"> {command}")
            if words[0] == "ticks":
                for _ in range(int(words[1])):
                    fair(self.world, lambda _: False, 1)
                    self._look()
            else:
                self._act(words)
                self.world.settle()
                self._look()
        self._end()
        return "\n".join(self.lines) + "\n"

    def _start(self, name: str) -> None:
        self.world = STARTS[name]()
        self.began = self.world.now
        self._look()

    def _say(self, what: str) -> None:
        ticks = (self.world.now - self.began) // TICK_NS
        self.lines.append(f"{ticks:>4}  {what}")

    def _look(self) -> None:
        world = self.world
        faults = world.faults()
        assert not faults, faults[0].sentence
        last = world.history.newest.config
        if describe(last) != self.shown:
            self.shown = describe(last)
            self._say(f"{self.shown}: {last.reason}")
        for m in world.nodes():
            if world.is_serving(m) != self.serving.get(m.id, False):
                self.serving[m.id] = world.is_serving(m)
                self._say(f"{m.id} serves" if self.serving[m.id] else f"{m.id} stops serving")

    def _act(self, words: list[str]) -> None:
        world, name = self.world, words[1] if len(words) > 1 else ""
        match words[0]:
            case "cut":
                self._cut(name, both=True, kinds=tuple(words[2:]) or KINDS)
            case "one-way":
                self._cut(name, both=False, kinds=tuple(words[2:]) or KINDS)
            case "isolate":
                for other in world.machines:
                    if other != name:
                        self._cut(f"{name}-{other}", both=True, kinds=KINDS)
            case "heal":
                world.heal()
            case "power-off":
                world.power_off(world.machines[name])
            case "power-on":
                world.power_on(world.machines[name])
            case "kill-monitor":
                world.kill_monitor(world.machines[name])
            case "start-monitor":
                world.start_monitor(world.machines[name])
            case "kill-database":
                world.crash_database(world.machines[name])
            case "freeze":
                world.freeze_monitor(world.machines[name])
            case "thaw":
                world.thaw_monitor(world.machines[name])
            case "write":
                if not world.write(world.machines[name]):
                    self._say(f"{name} takes no write")
            case "switchover":
                world.command(world.machines[name], ev.Switchover())
            case "release-protect":
                world.command(world.machines[name], ev.ReleaseProtect())
            case "force":
                world.command(world.machines[name], ev.ForceTakeover("operator"))
            case "maintenance":
                world.command(world.machines[name], ev.Maintenance(words[2] == "on"))
            case unknown:
                raise ValueError(f"No such command: {unknown}")

    def _cut(self, pair: str, *, both: bool, kinds: tuple[str, ...]) -> None:
        one, other = pair.replace(">", "-").split("-")
        ways = [(one, other), (other, one)] if both else [(one, other)]
        cuts = {(x, y, kind) for x, y in ways for kind in kinds}
        self.world.cuts = self.world.cuts | cuts
        self.world.cut_at = self.world.now

    def _end(self) -> None:
        world = self.world
        last = world.history.newest.config
        acknowledged = len(world.history.acknowledged)
        serving = " and ".join(m.id for m in world.nodes() if world.is_serving(m)) or "nobody"
        waiting = sum(len(m.data.waiting) for m in world.nodes())
        self.lines.append(
            f"= {describe(last)}; {serving} serves; {acknowledged} acknowledged, {waiting} waiting"
        )


def read(path: Path) -> tuple[list[str], list[str], str]:
    """Comments and commands, commands alone, and the expected trace of a scenario file."""
    head, _, trace = path.read_text(encoding="utf-8").partition("----\n")
    lines = head.splitlines()
    commands = [line for line in lines if line.strip() and not line.startswith("#")]
    return lines, commands, trace


def main() -> None:
    """Rewrite all traces."""
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit(__doc__)
    for path in sorted(HERE.glob("*.txt")):
        lines, commands, trace = read(path)
        played = Play().run(commands)
        if played != trace:
            path.write_text("\n".join(lines) + "\n----\n" + played, encoding="utf-8")
            print(f"rewritten: {path.name}")


if __name__ == "__main__":
    main()
