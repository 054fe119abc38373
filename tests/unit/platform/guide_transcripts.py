"""The transcripts of the guide, read where the shared folder is present; never copied."""

import os
from pathlib import Path

import pytest

NAME = "spec/mse-8.0-ha-guide.ja.txt"
ROOT = Path(__file__).resolve().parents[3]
RULE = "-----"
COLUMNS = 80


def lines() -> list[str]:
    """The guide; skips the test where it is not there."""
    shared = Path(os.environ.get("OPENMSE_SHARED", ROOT.parent / "shared"))
    path = shared / NAME
    if not path.exists():
        pytest.skip(f"the guide is not here: {NAME} in the shared folder (OPENMSE_SHARED)")
    return path.read_text(encoding="utf-8").splitlines()


def ha_screens() -> list[list[str]]:
    """Every gethainfo screen, in the guide's order: its lines without blanks and page marks."""
    text = lines()
    starts = [n for n, line in enumerate(text) if _is_prompt(line, "gethainfo")]
    return [_ha_screen(text[start + 1 :]) for start in starts]


def server_screens() -> list[list[str]]:
    """Every getserverinfo screen from its prompt to the next one."""
    text = lines()
    starts = [n for n, line in enumerate(text) if _is_prompt(line, "getserverinfo")]
    return [_until_prompt(text[start + 1 :]) for start in starts]


def counters_screen() -> list[str]:
    """The end of a screen of 7.2 with the Context Aware sections, wrapped lines joined."""
    text = lines()
    start = next(n for n, line in enumerate(text) if line.startswith("Active Wired Clients:"))
    joined: list[str] = []
    for line in text[start:]:
        if line.startswith("[root@"):
            break
        if joined and len(joined[-1]) == COLUMNS:
            joined[-1] += line
        else:
            joined.append(line)
    return _clean(joined)


def _is_prompt(line: str, command: str) -> bool:
    return line == command or (line.startswith("[root@") and line.endswith(command))


def _clean(text: list[str]) -> list[str]:
    found = [line.strip() for line in text]
    return [line for line in found if line and line.isascii() and not line.startswith("```")]


def _ha_screen(text: list[str]) -> list[str]:
    """Up to the state of the last peer that it counts."""
    found: list[str] = []
    peers, states = 1, 0
    for line in _clean(text):
        found.append(line)
        if line.startswith("Number of paired peers: "):
            peers = int(line.rpartition(" ")[2])
        states += line.startswith(("Current state:", "Last shutdown state:"))
        if states == peers:
            return found
    raise AssertionError("a screen of the guide does not end")


def _until_prompt(text: list[str]) -> list[str]:
    end = next(n for n, line in enumerate(text) if line.startswith("[root@"))
    return _clean(text[:end])


def check_same(ours: list[str], guide: list[str]) -> None:
    """Equal line by line. The guide's copy has lost some rules around titles; none of ours may be
    missing where it has one."""
    shown = [line.strip() for line in ours if line.strip()]
    place = 0
    for wanted in guide:
        while place < len(shown) and shown[place] == RULE and wanted != RULE:
            place += 1
        found = shown[place] if place < len(shown) else "(the screen ends)"
        assert found == wanted
        place += 1
    assert [line for line in shown[place:] if line != RULE] == []


def values(screen: list[str]) -> list[tuple[str, str]]:
    """(label, value) of each line that has both."""
    parted = [line.partition(": ") for line in screen]
    return [(label, value) for label, separator, value in parted if separator]
