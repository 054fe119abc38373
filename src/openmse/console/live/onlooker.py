"""What both machines of a pair show while an action goes on, as steps with a machine and a time.

The engine that was asked tells the steps of its operation; what the other one does meanwhile
(promoting, taking the address, letting clients in) is in its pictures, which the console has of
both. Each change of a picture becomes a step; instants are this console's, when it was told.
"""

import time
from collections.abc import Callable, Mapping

from openmse.console.live.feed import EngineFeed
from openmse.console.live.state import EngineLive
from openmse.console.nodes.models import Snapshot
from openmse.console.store.past import SEEN, Step

STEPS_MAX = 200
CALM_S = 4.0
FACETS = ("reachability", "state", "register", "database", "replication", "address", "clients")
NOT_HEARD = {"reachability": "silent"}


def facets(s: Snapshot | None) -> Mapping[str, str]:
    """The sides of a picture that an action changes, in words of the protocol. Pure."""
    if s is None:
        return NOT_HEARD
    register, database = s.register, s.database
    found = {"reachability": "up", "state": s.state, "address": s.address}
    if register is not None:
        version = f"{register.term}.{register.epoch}"
        found["register"] = f"{register.mode}({register.owner}), {version}"
    if database is not None:
        is_up = database.process == "up"
        found["database"] = database.role if is_up and database.role else database.process
        found["replication"] = database.receiver
    found["clients"] = "admitted" if s.admits_clients else "kept out"
    return found


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str]]:
    """(side, new word) of what has changed; nothing of what is not known now. Pure."""
    return [
        (name, after[name])
        for name in FACETS
        if after.get(name) and before.get(name) != after[name]
    ]


class Onlooker:
    """Looks at the engines from ``begin`` to ``end``."""

    def __init__(self, feeds: list[EngineFeed], changed: Callable[[], None]) -> None:
        """``changed`` is called when there is another step."""
        self._feeds = feeds
        self._changed = changed
        self._began_s = 0.0
        self._changed_s = 0.0
        self._last: dict[int, Mapping[str, str]] = {}
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was seen so far, oldest first."""
        return tuple(self._steps)

    def begin(self) -> None:
        """What is shown now is where everything starts from."""
        self._began_s = self._changed_s = time.monotonic()
        for feed in self._feeds:
            self._last[feed.live.engine.id] = self._facets(feed.live)
            feed.onlookers.add(self.look)

    def end(self) -> None:
        """Look no more."""
        for feed in self._feeds:
            feed.onlookers.discard(self.look)

    def look(self, live: EngineLive) -> None:
        """An engine's picture is another one."""
        now_s = time.monotonic()
        before = self._last.get(live.engine.id, {})
        after = {**before, **self._facets(live)}
        found = differences(before, after) if before else []  # the first full picture is no change
        self._last[live.engine.id] = after
        for name, word in found:
            if len(self._steps) < STEPS_MAX:
                ms = round((now_s - self._began_s) * 1000, 1)
                self._steps.append(Step(live.engine.name, name, SEEN, ms, word))
        if found:
            self._changed_s = now_s
            self._changed()

    def is_calm(self) -> bool:
        """Whether nothing has changed for a while."""
        return time.monotonic() - self._changed_s >= CALM_S

    @staticmethod
    def _facets(live: EngineLive) -> Mapping[str, str]:
        now_s = time.monotonic()
        snapshot = live.fresh_snapshot(now_s)
        if snapshot is None and live.is_monitor_up and live.is_fresh(now_s):
            return {}  # it is there, and its full picture is on the way
        return facets(snapshot)
