"""The terminal, or a pipe: plain lines in, plain text out; passwords without echo. No decisions."""

import contextlib
import io
import os
import sys
import termios
import textwrap
from collections.abc import Iterator
from typing import TextIO

from openmse.setup.wizard import LINE_MAX, Turn


def fitted(text: str, columns: int) -> str:
    """Text for a narrow terminal: longer lines are broken between words. Pure.

    What is left of one begins the next where the sentence goes on there, in small letters. The
    last line is a prompt, behind which somebody types, and stays as it is.
    """
    *lines, prompt = text.split("\n")
    shown: list[str] = []
    is_broken = False
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        if is_broken and line[:1].islower():
            line = f"{shown.pop()} {line}"
        is_broken = len(line) > columns > len(indent)
        shown += textwrap.wrap(line, columns, subsequent_indent=indent) if is_broken else [line]
    return "\n".join((*shown, prompt))


class Ended(Exception):
    """The input ended before everything was answered."""


class Terminal:
    """Standard input and output, whatever they are."""

    def __init__(self, source: TextIO | None = None, target: TextIO | None = None) -> None:
        self._source = source or sys.stdin
        self._target = target or sys.stdout
        for stream, errors in ((self._source, "replace"), (self._target, "backslashreplace")):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=errors)  # bytes that are no text are no answer either

    def say(self, text: str) -> None:
        """A line, or several."""
        self._target.write(f"{text}\n")
        self._target.flush()

    def ask(self, turn: Turn) -> str:
        """Show a turn and take the line; raises Ended at the end of the input."""
        with self._hidden() if turn.is_secret else contextlib.nullcontext():
            self._target.write(fitted(turn.screen, self._columns))
            self._target.flush()
            line = self._line()
        if not line:
            self._target.write("\n")
            raise Ended
        if turn.is_secret:
            self._target.write("\n")  # nobody saw the line end
        elif not self._source.isatty():
            self._target.write(line if line.endswith("\n") else f"{line}\n")  # as if typed
        return line

    @property
    def _columns(self) -> int:
        """The terminal's width at the moment; without one, so wide that nothing is broken."""
        try:
            return os.get_terminal_size(self._target.fileno()).columns or sys.maxsize
        except (OSError, ValueError):
            return sys.maxsize

    def _line(self) -> str:
        """One line; of a longer one than any answer the rest is thrown away."""
        line = self._source.readline(LINE_MAX + 2)
        while line and not line.endswith("\n"):
            more = self._source.readline(LINE_MAX + 2)
            if not more:
                break
            line = line[: LINE_MAX + 1] + ("\n" if more.endswith("\n") else "")
        return line

    @contextlib.contextmanager
    def _hidden(self) -> Iterator[None]:
        """No echo; from before the prompt, since who types fast answers as soon as it is there."""
        if not self._source.isatty():
            yield
            return
        descriptor = self._source.fileno()
        before = termios.tcgetattr(descriptor)
        silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        try:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
            yield
        finally:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
