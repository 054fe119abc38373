"""The guide's two examples, driven through the wizard; and the page that shows their screens.

``python -m openmse.setup.screens docs/setup.md`` writes the screens into the page; a test holds
the page to it.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from openmse.ports import WITNESS_TLS
from openmse.setup.checks import Check, Claim, Colour, Found, Reached, as_lines, judge
from openmse.setup.values import Interface, Machine
from openmse.setup.wizard import Phase, Script, State, Turn, answer, begin, checked, script_for

GUIDE_MACHINE = Machine(
    hostname="mse",
    virtual_ip="1.1.1.1",
    virtual_netmask="1.1.1.1",
    interfaces=(
        Interface(name="eth0", address="1.1.1.10", netmask="255.255.255.0"),
        Interface(name="eth1"),
    ),
    gateway="1.1.1.1",
    is_dns_enabled=True,
    zone="America/New_York",
)
"""The appliance of the guide, as it comes from the factory."""

_SETTINGS = ("s", "s", "", "11", "", "yes", "ntp.network.local")
"""eth1 and DNS skipped, the time zone UTC, NTP with a server."""
PRIMARY = (
    *("", "", "mse1", "s"),
    *("", "", "", "", "10.10.10.11", "255.255.255.0", "no"),
    *("", "10.10.10.12", "", "10.10.10.1"),
    *_SETTINGS,
    *("", "", "", "", "10.10.10.9"),
    *("", "correct horse battery", "correct horse battery"),
    *("", "10.10.10.13"),
    "yes",
)
SECONDARY = (
    *("", "yes", "mse2", "s"),
    *("", "2", "", ""),
    *("", "10.10.10.13", "", "10.10.10.1"),
    *_SETTINGS,
    *("s",),
    *("", "staple of the pair", "staple of the pair"),
    "yes",
)
WRONG = (
    *("", "", "1mse", "mse-", "mse1", "^", "", "perhaps", "s"),
    *("", "3", "1", "eth7", "", "eth0", "", "10.10.10", "10.10.10.11"),
    *("255.0.255.0", "24", "^", "", "maybe", "no"),
)
"""Wrong answers, each refused with its rule, and ``^``."""


class Player:
    """Types lines into the wizard and keeps what a terminal would show."""

    def __init__(self, script: Script, checks: tuple[Check, ...] = ()) -> None:
        self.script = script
        self.checks = checks
        self.turn: Turn = begin(script)
        self.shown = self.turn.screen

    @property
    def state(self) -> State:
        """Where the conversation is."""
        return self.turn.state

    def type(self, lines: Iterable[str]) -> None:
        """Type each line; the checks are made when their time comes."""
        for line in lines:
            self.shown += "\n" if self.turn.is_secret else f"{line}\n"
            self._show(answer(self.script, self.state, line))
            if self.state.phase is Phase.CHECKING:
                self._show(checked(self.script, self.state, self.checks))

    def _show(self, turn: Turn) -> None:
        self.turn = turn
        self.shown += turn.screen

    @property
    def screen(self) -> str:
        """Everything shown so far, without trailing blanks."""
        return "\n".join(line.rstrip() for line in self.shown.strip("\n").splitlines())


def played(lines: Iterable[str], machine: Machine = GUIDE_MACHINE) -> Player:
    """A conversation with these lines."""
    player = Player(script_for(machine, lambda view: []))
    player.type(lines)
    return player


def example_checks() -> str:
    """The checks of the primary of the example, one of them red."""
    player = played(PRIMARY)
    view = player.script.view(player.state)
    found = Found(
        interfaces=("eth0", "eth1"),
        gateway=Claim("52:54:00:00:00:01"),
        claims={"10.10.10.12": Claim(), "10.10.10.11": Claim("52:54:00:00:00:77")},
        peer="10.10.10.13",
        skew_ms=-12.0,
        witness=(Reached("10.10.10.9", WITNESS_TLS),),
        memory_bytes=4_100_000_000,
        free_bytes=31_000_000_000,
    )
    checks = judge(view, found)
    assert any(check.colour is Colour.RED for check in checks)
    return "\n".join(as_lines(checks))


def screens() -> dict[str, str]:
    """Each screen of the page by its name."""
    return {
        "primary": played(PRIMARY).screen,
        "secondary": played(SECONDARY).screen,
        "wrong": played(WRONG).screen,
        "checks": example_checks(),
    }


_BLOCK = re.compile(r"(<!-- screen: (\w+) -->\n)```\n.*?\n```\n", re.DOTALL)


def rewritten(page: str) -> str:
    """The page with its screens as they are now."""
    found = screens()
    return _BLOCK.sub(lambda match: f"{match[1]}```\n{found[match[2]]}\n```\n", page)


def main(arguments: list[str]) -> int:
    """Rewrite the page that is named."""
    if len(arguments) != 1:
        print("usage: python -m openmse.setup.screens docs/setup.md", file=sys.stderr)
        return 2
    page = Path(arguments[0])
    page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
