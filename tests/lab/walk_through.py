"""The walk-through of docs/install.md, followed as a person follows it: typed at terminals.

A ``toml`` block that begins with ``# MACHINE:PATH`` is a file of that machine. A ``console`` block
is what is typed (``root@MACHINE:~# COMMAND``) and what answers: these lines in this order, others
may stand between them; ``…`` is anything. ``^C`` ends a command that goes on by itself.
"""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "install.md"
WITHIN_S = 60.0
ANYTHING, INTERRUPT = "…", "^C"
_BLOCK = re.compile(r"^```(?P<kind>toml|console)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"root@(?P<machine>[\w-]+):~# (?P<command>.+)")
_PLACE = re.compile(r"# (?P<machine>[\w-]+):(?P<path>/\S+)\n")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Written:
    """A file that the page has one write."""

    machine: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Typed:
    """A command that the page has one type; ``answer``: the lines beneath it."""

    machine: str
    command: str
    answer: tuple[str, ...]

    @property
    def is_endless(self) -> bool:
        """Whether it goes on until it is interrupted."""
        return self.answer[-1:] == (INTERRUPT,)

    @property
    def is_look(self) -> bool:
        """Whether it only looks, and is typed again until all is there."""
        return self.command.startswith("journalctl ")


def steps(page: str) -> Iterator[Written | Typed]:
    """Everything that the page has one do on the three machines, in its order."""
    for block in _BLOCK.finditer(page):
        if block["kind"] == "console":
            yield from _typed(block["text"].splitlines())
        elif place := _PLACE.match(block["text"]):
            yield Written(place["machine"], place["path"], block["text"])


def _typed(lines: Sequence[str]) -> Iterator[Typed]:
    starts = [number for number, line in enumerate(lines) if _TYPED.fullmatch(line)]
    assert starts[:1] == [0], f"a block begins with a prompt: {lines[:1]}"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found = _TYPED.fullmatch(lines[start])
        assert found is not None
        yield Typed(found["machine"], found["command"], tuple(lines[start + 1 : end]))


def missing(shown: str, answer: Sequence[str]) -> str:
    """The first line of an answer that was not shown after those before it; '' if all were."""
    left = (" ".join(line.split()) for line in _ESCAPE.sub("", shown).splitlines())
    for line in answer:
        words = " ".join(line.split())
        if words in ("", ANYTHING, INTERRUPT):
            continue
        wanted = re.compile(".*".join(re.escape(part) for part in words.split(ANYTHING)))
        if not any(wanted.fullmatch(one) for one in left):
            return line
    return ""


class Terminal:
    """A terminal at which one command runs; what it asks for is answered.

    ``replies``: what is typed by the end of the question. A confirmation gets the last reply again.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=env
        )
        os.close(theirs)
        self._data = b""

    @property
    def shown(self) -> str:
        """Everything that has appeared."""
        return self._data.decode(errors="replace")

    def run(self, step: Typed, replies: Mapping[str, str]) -> int:
        """Answer until it ends, or until all is there that an endless one is to show."""
        deadline, last, answered = time.monotonic() + WITHIN_S, "", 0
        try:
            while self._read(deadline):
                question = self.shown[answered:].rpartition("\n")[2]
                reply = self._reply(question, replies, last)
                if reply is not None:
                    answered, last = len(self.shown), reply
                    os.write(self._ours, f"{reply}\n".encode())
                if step.is_endless and not missing(self.shown, step.answer):
                    os.write(self._ours, b"\x03")
                    return 0
            return self._process.wait(10)
        finally:
            os.close(self._ours)
            if self._process.poll() is None and not step.is_endless:
                self._process.kill()
            self._process.wait(10)

    def _read(self, deadline: float) -> bool:
        """Whether there was more; False once nobody is at the terminal any more."""
        left_s = deadline - time.monotonic()
        assert left_s > 0, f"it has not ended:\n{self.shown}"
        if not select.select([self._ours], [], [], min(left_s, 1.0))[0]:
            return True
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # EIO: the other side is closed
            return False
        self._data += data
        return bool(data)

    @staticmethod
    def _reply(question: str, replies: Mapping[str, str], last: str) -> str | None:
        if question.endswith("Repeat for confirmation: "):
            return last
        return next((reply for end, reply in replies.items() if question.endswith(end)), None)
