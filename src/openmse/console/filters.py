"""How values read on a page: instants, ages, sizes; '–' where there is nothing. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from openmse.console.sentences import sentences
from openmse.errors import MseError

NONE = "–"


def instant(text: str | None) -> str:
    """``2026-01-31 03:00:00`` in UTC; people compare it with logs, so seconds are shown."""
    if not text:
        return NONE
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # an engine's word: also years that no zone has
        return text
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def milliseconds(value: float | None) -> str:
    """With the precision that a person can use."""
    if value is None or value < 0:
        return NONE
    if value < 10:
        return f"{value:.2f}" if value else "0"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes with a binary unit."""
    if value is None or value < 0:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return NONE


def duration(seconds: float | None) -> str:
    """Of two units at most: 12 s, 3 min 4 s, 5 h 6 min, 7 d 8 h."""
    if seconds is None or seconds < 0:
        return NONE
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, lower, per in (("min", "s", 60), ("h", "min", 3600), ("d", "h", 86400)):
        if whole < per * {60: 60, 3600: 24, 86400: 100_000}[per]:
            parts = {60: 1, 3600: 60, 86400: 3600}[per]
            rest = whole % per // parts
            return f"{whole // per} {unit}" + (f" {rest} {lower}" if rest else "")
    return NONE


def octets(fingerprint: str) -> Markup:
    """A fingerprint that breaks between octets only, so that two can be compared by eye."""
    return Markup(":<wbr>").join(fingerprint.split(":"))


def segment(text: str) -> str:
    """A part of a path that is a name from elsewhere: it stays one part, whatever it is.

    Browsers take '.' and '..' for steps up, however they are written: those lead to nothing.
    """
    return quote(text, safe="") if text.strip(".") else f"{text}%20"


def number(value: Any) -> Any:
    """A number without needless zeros; anything else, such as what a person typed, as it is."""
    return f"{value:g}" if isinstance(value, float) else value


def spaced(text: str) -> str:
    """A word of the protocol as people write it: hand over; states and sentences as they are."""
    return text.replace("_", " ") if text.islower() and " " not in text else text


def count(value: int | None) -> str:
    """A number of things, with separators."""
    return NONE if value is None else f"{value:,}"


def dash(value: Any) -> Any:
    """The value, or a dash where there is none."""
    return NONE if value is None or value == "" else value


WORDS: dict[str, str] = {}


def with_original(translated: str | None, original: str) -> Markup:
    """A translation with what it was made of beneath, small; or only the original."""
    if translated is None:
        return escape(original)
    return Markup('{} <span class="original" lang="en">{}</span>').format(translated, original)


def all_filters(language: str, gettext: Callable[[str], str]) -> dict[str, Callable[..., Any]]:
    """By the names that templates use."""
    catalogue = sentences(language)

    def word(value: str | None) -> str:
        """A word of the protocol in the reader's language; states stay as they are."""
        text = gettext(value) if value else NONE
        return spaced(text)

    def told(value: str | None) -> Markup:
        """What an engine (or this console) says, in the reader's language where it is known."""
        text = value or ""
        return with_original(catalogue.known(text), text)

    def told_error(error: MseError) -> Markup:
        """An error's sentence; where that is not known, what its code means, and the sentence."""
        known = catalogue.known(error.sentence)
        if known is None and not catalogue.is_own:
            known = catalogue.code(error.code) or None
        return with_original(known, error.sentence)

    def step(name: str) -> str:
        """A step's name: a word of the protocol, or a few words with a machine's name in them."""
        known = gettext(name)
        return spaced(known) if known != name else spaced(catalogue.told(name))

    return {
        "step": step,
        "told": told,
        "told_plain": lambda value: catalogue.told(value or ""),
        "told_error": told_error,
        "meaning": catalogue.code,
        "event": lambda kind: spaced(catalogue.event(kind)),
        "instant": instant,
        "ms": milliseconds,
        "size": size,
        "duration": duration,
        "dash": dash,
        "count": count,
        "number": number,
        "octets": octets,
        "segment": segment,
        "word": word,
    }
