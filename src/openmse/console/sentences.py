"""Sentences of engines (and of this console) in the reader's language. Pure, but for its files.

Engines say what happens in English: errors with a stable code, reasons, alarms, events. The
catalogue ``engine.po`` of a language knows them

- whole, as patterns: ``msgid "{1} is not heard."``; ``{1}`` is anything, in the translation
  ``{1:w}`` is a word of the protocol, ``{1:s}`` a list of steps ("stop 12 ms, drain 3 ms");
- by code (``msgctxt "code"``): what an error of that code means, where its sentence is not known;
- by the kind of an event (``msgctxt "event"``).

What is not known is shown as it came. Whoever shows a translation shows the original with it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

from babel.messages.pofile import read_po

from openmse.console.i18n import DEFAULT, LANGUAGES, LOCALES

KEPT = 4096
NESTING_MAX = 3
VALUE_WORDS_MAX = 8
"""More words than a name, a figure or a library's own complaint has: another sentence."""
TEXT_MAX = 1500
"""What is longer is no sentence of an engine, and is shown as it came."""
TRIES_MAX = 400
"""So often, at most, a part of one text is compared with the catalogue: a text that was made to fit
many patterns in many ways takes a moment, not for ever."""
_PLACE = re.compile(r"\{(\d)(?::(\w))?\}")
_ENDS = re.compile(r"(?<=[.:])\s+(?=['\"“A-Z0-9{])")
_STEP = re.compile(r"(?P<gap>^|, )(?P<name>[^,]+?) (?P<ms>\d+ ms)")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A sentence with places for values, and what it is in another language."""

    literals: tuple[str, ...]
    """What is always the same: before, between and after the places."""
    names: tuple[str, ...]
    """Of the places, in their order."""
    literal: str
    """The longest part that is always the same: where it is absent nothing else is tried."""
    size: int
    target: str

    def readings(self, text: str) -> Iterator[dict[str, str]]:
        """What the places hold, as short as can be, then as long: "{1} {2} will serve" has a
        sentence in one of them, and only what is in the places tells in which.

        By looking from one end to the other, once: regular expressions would try every way to cut
        a text that an engine has made for that.
        """
        shortest = _cut(text, self.literals)
        if shortest is not None:
            yield dict(zip(self.names, shortest, strict=True))
        if len(self.names) > 1:
            backwards = tuple(literal[::-1] for literal in reversed(self.literals))
            longest = _cut(text[::-1], backwards)
            if longest is not None:
                values = [value[::-1] for value in reversed(longest)]
                yield dict(zip(self.names, values, strict=True))


def _cut(text: str, literals: tuple[str, ...]) -> list[str] | None:
    """What is between the literals, each as short as can be but for the last; None where the text
    is made otherwise."""
    if len(literals) == 1:
        return [] if text == literals[0] else None
    first, *inner, last = literals
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return None
    found = []
    for literal in inner:
        place = text.find(literal, at, end)
        if place < 0:
            return None
        found.append(text[at:place])
        at = place + len(literal)
    return [*found, text[at:end]]


def pattern(msgid: str, msgstr: str) -> _Pattern:
    """A pattern from an entry of the catalogue."""
    literals, names, end = [], [], 0
    for place in _PLACE.finditer(msgid):
        literals.append(msgid[end : place.start()])
        names.append(place[1])
        end = place.end()
    literals.append(msgid[end:])
    longest = max(literals, key=len)
    return _Pattern(tuple(literals), tuple(names), longest, sum(map(len, literals)), msgstr)


@dataclass
class Sentences:
    """One language's catalogue."""

    patterns: tuple[_Pattern, ...]
    codes: dict[str, str]
    events: dict[str, str]
    word: Callable[[str], str]
    is_own: bool = False
    """Whether the language is the one that engines speak."""
    _known: Callable[[str], str | None] = field(init=False, repr=False)
    _tries_left: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._known = lru_cache(KEPT)(self._begin)

    def told(self, text: str) -> str:
        """The sentence (or several) in this language, or as it is."""
        return self.known(text) or text

    def known(self, text: str) -> str | None:
        """The same, or None where it is not known (always so in the engines' language)."""
        is_none = self.is_own or not text or len(text) > TEXT_MAX
        return None if is_none else self._known(text)

    def _begin(self, text: str) -> str | None:
        self._tries_left = TRIES_MAX
        return self._translated(text, 0)

    def code(self, code: str) -> str:
        """What an error of that code means; '' where nothing is known of it."""
        return self.codes.get(code, "")

    def event(self, kind: str) -> str:
        """An event's kind in words, or as it is."""
        return self.events.get(kind, "") or kind

    def _translated(self, text: str, depth: int) -> str | None:
        whole = self._whole(text, depth)
        if whole is not None:
            return whole
        parts = _ENDS.split(text)
        if len(parts) == 1:
            return None
        known = self._in_parts(parts, depth)
        return "".join(known) if known else None

    def _in_parts(self, parts: list[str], depth: int) -> list[str]:
        """Each sentence by itself, or two that belong together; [] where none is known, or, in a
        place of another sentence, where not all are: that one did not mean them."""
        found, is_known, is_all, skip = [], False, True, False
        for part, following in pairwise([*parts, ""]):
            if skip:
                skip = False
                continue
            both = self._whole(f"{part} {following}", depth) if following else None
            one = both or self._whole(part, depth)
            skip, is_known = both is not None, is_known or one is not None
            is_all = is_all and one is not None
            found.append(one if one is not None else f"{part} ")
        return found if is_known and (is_all or depth == 0) else []

    def _whole(self, text: str, depth: int) -> str | None:
        if self._tries_left <= 0:
            return None
        self._tries_left -= 1
        for one in self.patterns:
            for values in one.readings(text) if one.literal in text else ():
                filled = self._filled(one, values, depth)
                if filled is not None:
                    return filled
        return None

    def _filled(self, one: _Pattern, raw: dict[str, str], depth: int) -> str | None:
        lists = {place[1] for place in _PLACE.finditer(one.target) if place[2]}
        values = {
            name: value if name in lists else self._value(value, depth)
            for name, value in raw.items()
        }
        if None in values.values():
            return None  # it swallowed another sentence, which nobody knows

        def place(found: re.Match[str]) -> str:
            told = raw[found[1]]
            if found[2] == "w":
                return self.word(told)
            if found[2] == "s":
                return _STEP.sub(lambda s: f"{s['gap']}{self.word(s['name'])} {s['ms']}", told)
            return values[found[1]] or ""

        return _PLACE.sub(place, one.target)

    def _value(self, value: str, depth: int) -> str | None:
        """What stands in a place: a name or a figure as it is, a sentence translated."""
        if " " not in value.strip():
            return value
        known = self._translated(value.strip(), depth + 1) if depth < NESTING_MAX else None
        if known is not None:
            return known
        is_too_much = _ENDS.search(value) or len(value.split()) > VALUE_WORDS_MAX
        return None if is_too_much else value


@cache
def sentences(language: str) -> Sentences:
    """The catalogue of a language; the engines' own language has no patterns."""
    from openmse.console.i18n import translations

    path = LOCALES / language / "LC_MESSAGES" / "engine.po"
    if language not in LANGUAGES or not path.exists():
        return Sentences((), {}, {}, str, is_own=True)
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    kept: dict[str | None, dict[str, str]] = {None: {}, "code": {}, "event": {}}
    for message in catalogue:
        if message.id and isinstance(message.id, str) and isinstance(message.string, str):
            kept[message.context][message.id] = message.string
    patterns = sorted(
        (pattern(*entry) for entry in kept[None].items()), key=lambda one: one.size, reverse=True
    )
    word = translations(language).gettext
    return Sentences(tuple(patterns), kept["code"], kept["event"], word, is_own=language == DEFAULT)
