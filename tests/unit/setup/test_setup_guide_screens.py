"""The wizard speaks the words of the guide, screen by screen, and the page shows its screens."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from openmse.setup import texts
from openmse.setup.screens import PRIMARY, SECONDARY, played, rewritten

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("OPENMSE_SHARED", ROOT.parent / "shared"))
GUIDE = SHARED / "spec" / "mse-8.0-ha-guide.ja.txt"
SLIPS = {"NTP servers=10.10.10.10": "NTP servers=ntp.network.local"}
"""A name was entered and an address shown; the shared specification says not to copy that."""


def normal(line: str) -> str:
    """A line without what a scanned page adds or loses: blanks, the cursor, escapes."""
    text = " ".join(line.replace('\\"', '"').split())
    for slip, right in SLIPS.items():
        text = text.replace(slip, right)
    return re.sub(r"[_:\s]*$", "", text)


def lines_of(text: str) -> list[str]:
    return [line for line in map(normal, text.splitlines()) if line.strip("-")]


def blocks(start: str, end: str) -> list[list[str]]:
    """The console screens of a part of the guide that belong to the wizard."""
    if not GUIDE.exists():
        pytest.skip(f"the guide is not here: {GUIDE}")
    text = GUIDE.read_text()
    text = text[text.index(start) :]
    text = text[: text.index(end)]
    found = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    assert len(found) >= 6
    return [lines_of(block) for block in found if "255.0.0.0" not in block]  # the text summary


def missing(wanted: Iterable[str], shown: list[str]) -> list[str]:
    """The wanted lines that do not follow each other, in order, in what was shown."""
    rest = iter(shown)
    return [line for line in wanted if line not in rest]


def is_login(line: str) -> bool:
    return line.startswith(("Cisco", "mse login", "Password", "Last login"))


PARTS = {
    "primary": (
        PRIMARY,
        "2. 図に示すように、最初のログイン時に",
        "11. 図に示すように、セットアップ後",
    ),
    "secondary": (SECONDARY, "これらの手順は、セカンダリ", "7. 図に示すように、リブートし"),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_line_of_the_guide_is_shown_in_its_order(name: str) -> None:
    typed, start, end = PARTS[name]
    if name == "primary":  # one of its screens was taken after a step back
        typed = (*typed[:3], "^", "mse1", *typed[3:])
    shown = lines_of(played(typed).screen)
    for block in blocks(start, end):
        wanted = [line for line in block if not is_login(line)]
        assert wanted
        assert missing(wanted, shown) == []


@pytest.mark.parametrize("name", PARTS)
def test_nothing_is_asked_that_the_guide_does_not_ask(name: str) -> None:
    typed, start, end = PARTS[name]
    guide = {line for block in blocks(start, end) for line in block}
    if name == "secondary":  # that part begins after the question for the wizard
        guide |= set(lines_of(texts.WIZARD))
        guide.add("Setup parameters via Setup Wizard (yes/no) [yes]")
    screen = played(typed).screen
    ours = set(lines_of(texts.WELCOME))
    first_of_ours = {"primary": "Current failover wait=", "secondary": texts.MANAGEMENT}[name]
    before, _, after = screen.partition(first_of_ours)
    assert after
    strange = [line for line in lines_of(before) if line not in guide and line not in ours]
    if name == "secondary":
        strange = [line for line in strange if line not in lines_of(played(PRIMARY).screen)]
    assert strange == []


def test_the_summary_is_the_verification_screen_of_the_guide() -> None:
    skipped = [*PRIMARY[:22], "s", "s", "s", "s"]
    screen = played(skipped).screen
    begin = screen.index(texts.BEGIN)
    assert screen[begin : screen.index(texts.END)] == (
        "-----BEGIN-----\n\nHost name=mse1\n"
        "      Role=1, Health Monitor Interface=eth0, Direct connect interface=none\n"
        "      Virtual IP Address=10.10.10.11, Virtual IP Netmask=255.255.255.0\n"
        "Eth0 IP address=10.10.10.12, Eth0 network mask=255.255.255.0\n"
        "Default gateway=10.10.10.1\nTime zone=UTC\n"
        "Enable NTP=yes, NTP servers=ntp.network.local\n\n"
    )
    assert screen.endswith("Is the above information correct (yes, no, or ^):")


def test_no_password_is_ever_shown() -> None:
    for typed, secret in ((PRIMARY, "correct horse battery"), (SECONDARY, "staple of the pair")):
        assert secret in typed
        player = played(typed)
        assert player.shown.count(secret) == 0
        assert secret not in repr(player.state)
        assert all(secret not in repr(given) for given in player.state.trail)


def test_the_page_shows_the_screens_as_they_are() -> None:
    page = (ROOT / "docs" / "setup.md").read_text()
    assert page.count("<!-- screen:") == 4
    assert rewritten(page) == page, "python -m openmse.setup.screens docs/setup.md"


def test_the_role_change_is_refused_in_the_guides_words() -> None:
    if not GUIDE.exists():
        pytest.skip(f"the guide is not here: {GUIDE}")
    guide = "".join(GUIDE.read_text().split())
    assert "".join(texts.SWITCHED_ROLES.split()) in guide
