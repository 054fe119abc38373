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
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

from babel.messages.pofile import read_po

from openmse.console.i18n import DEFAULT, LANGUAGES, LOCALES

KEPT = 4096
NESTING_MAX = 3
VALUE_WORDS_MAX = 8
"""More words than a name, a figure or a library's own complaint has: another sentence."""
_PLACE = re.compile(r"\{(\d)(?::(\w))?\}")
_ENDS = re.compile(r"(?<=[.:])\s+(?=['\"“A-Z0-9{])")
_STEP = re.compile(r"(?P<gap>^|, )(?P<name>[^,]+?) (?P<ms>\d+ ms)")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A sentence with places for values, and what it is in another language."""

    regexes: tuple[re.Pattern[str], ...]
    """Places as short as can be, then as long: "{1} {2} will serve" has a sentence in one of them,
    and only what is in the places tells in which."""
    literal: str
    """The longest part that is always the same: where it is absent nothing else is tried."""
    size: int
    target: str


def pattern(msgid: str, msgstr: str) -> _Pattern:
    """A pattern from an entry of the catalogue."""
    literals, names, end = [], [], 0
    for place in _PLACE.finditer(msgid):
        literals.append(msgid[end : place.start()])
        names.append(place[1])
        end = place.end()
    literals.append(msgid[end:])
    pairs, regexes = list(zip(literals, names, strict=False)), []
    for many in (".*?", ".*")[: 2 if len(names) > 1 else 1]:
        parts = [f"{re.escape(before)}(?P<p{name}>{many})" for before, name in pairs]
        regexes.append(re.compile("".join(parts) + re.escape(literals[-1]), re.DOTALL))
    longest = max(literals, key=len)
    return _Pattern(tuple(regexes), longest, sum(map(len, literals)), msgstr)


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

    def __post_init__(self) -> None:
        self._known = lru_cache(KEPT)(lambda text: self._translated(text, 0))

    def told(self, text: str) -> str:
        """The sentence (or several) in this language, or as it is."""
        return self.known(text) or text

    def known(self, text: str) -> str | None:
        """The same, or None where it is not known (always so in the engines' language)."""
        return None if self.is_own or not text else self._known(text)

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
        for one in self.patterns:
            for regex in one.regexes if one.literal in text else ():
                match = regex.fullmatch(text)
                filled = self._filled(one, match, depth) if match else None
                if filled is not None:
                    return filled
        return None

    def _filled(self, one: _Pattern, match: re.Match[str], depth: int) -> str | None:
        lists = {f"p{place[1]}" for place in _PLACE.finditer(one.target) if place[2]}
        values = {
            name: value if name in lists else self._value(value, depth)
            for name, value in match.groupdict().items()
        }
        if None in values.values():
            return None  # it swallowed another sentence, which nobody knows

        def place(found: re.Match[str]) -> str:
            raw = match[f"p{found[1]}"]
            if found[2] == "w":
                return self.word(raw)
            if found[2] == "s":
                return _STEP.sub(lambda s: f"{s['gap']}{self.word(s['name'])} {s['ms']}", raw)
            return values[f"p{found[1]}"] or ""

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
