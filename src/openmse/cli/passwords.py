"""Passwords from a file or a prompt; never from the command line, which others can read."""

import getpass
import sys
import warnings
from pathlib import Path

import click

from openmse.errors import UsageError

MIN_LENGTH = 8
MAX_LENGTH = 256


def password(file: str, what: str, *, confirm: bool = False) -> str:
    """The password in ``file`` ('-' for standard input), or asked for; raises UsageError."""
    if file:
        text = _read(file, what)
    else:
        text = _asked(what, confirm=confirm)
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH or not text.isprintable():
        raise UsageError(
            f"The {what.lower()} must have {MIN_LENGTH} to {MAX_LENGTH} printable characters; "
            "nothing was changed."
        )
    return text


def _asked(what: str, *, confirm: bool) -> str:
    """What is typed at the terminal; where there is none it would be shown, and is not asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return str(click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True))
        except getpass.GetPassWarning as error:
            raise UsageError(
                f"There is no terminal at which the {what[:1].lower()}{what[1:]} could be asked "
                "for without showing it; nothing was changed.",
                "Name a file whose first line it is ('-' is standard input); --help has the "
                "option.",
            ) from error


def _read(file: str, what: str) -> str:
    try:
        if file == "-":
            return sys.stdin.readline(MAX_LENGTH + 2).rstrip("\r\n")
        with Path(file).open(encoding="utf-8") as stream:
            return stream.readline(MAX_LENGTH + 2).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UsageError(
            f"The file {file} with the {what.lower()} cannot be read: {reason}.",
            "Its first line is the password; nothing was changed.",
        ) from error
