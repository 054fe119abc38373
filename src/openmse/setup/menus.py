"""The menus of the time zone: continent, country, region. Pure.

The last entry of each returns to the previous step. The full name of a zone may be typed instead.
"""

from openmse.setup import texts
from openmse.setup.errors import BadAnswer
from openmse.setup.values import CONTINENT, View, Zone, zones_of

UTC = "UTC"
BACK = "^"
WIDTH = 80

CONTINENTS = (
    ("Africa", "Africa"),
    ("Americas", "America"),
    ("Antarctica", "Antarctica"),
    ("Arctic Ocean", "Arctic"),
    ("Asia", "Asia"),
    ("Atlantic Ocean", "Atlantic"),
    ("Australia", "Australia"),
    ("Europe", "Europe"),
    ("Indian Ocean", "Indian"),
    ("Pacific Ocean", "Pacific"),
)
"""The name in the menu, and the first part of the names of its zones."""


class GoBack(Exception):
    """The menu's entry that returns to the previous step was chosen."""


def continents(view: View) -> str:
    """The first menu."""
    return _menu([title for title, _ in CONTINENTS] + [texts.UTC])


def pick_continent(text: str, view: View) -> str:
    """A number of the menu, or the name of a zone."""
    number = _number(text, len(CONTINENTS) + 1)
    if number is None:
        known = {zone.name for zone in view.machine.zones} | {UTC, view.machine.zone}
        if text in known:
            return text
        raise BadAnswer(
            f"The answer must be a number from 1 to {len(CONTINENTS) + 2}, or the name of a time "
            "zone such as Europe/Paris."
        )
    if number == len(CONTINENTS) + 1:
        return UTC
    choice = f"{CONTINENT}{CONTINENTS[number - 1][1]}"
    if not zones_of(view.machine.zones, choice):
        raise BadAnswer(
            "This machine has no time zone of that part of the world (the package tzdata is "
            "missing or old). The answer must be another one; UTC is always there."
        )
    return choice


def needs_country(view: View) -> bool:
    """A continent was chosen rather than a zone."""
    return view.get("time.zone").startswith(CONTINENT)


def needs_region(view: View) -> bool:
    """The country has more than one zone."""
    return needs_country(view) and len(_of_country(view)) > 1


def countries(view: View) -> str:
    """The second menu."""
    return _menu([name for name, _ in _countries(view)])


def pick_country(text: str, view: View) -> str:
    """A number of the menu, as the country's code."""
    listed = _countries(view)
    return listed[_required(text, len(listed)) - 1][1]


def regions(view: View) -> str:
    """The third menu."""
    return _menu([zone.comment or zone.name for zone in _of_country(view)])


def pick_region(text: str, view: View) -> str:
    """A number of the menu, as the zone's name."""
    listed = _of_country(view)
    return listed[_required(text, len(listed)) - 1].name


def _countries(view: View) -> list[tuple[str, str]]:
    zones = zones_of(view.machine.zones, view.get("time.zone"))
    return sorted({(zone.country_name, zone.country) for zone in zones})


def _of_country(view: View) -> tuple[Zone, ...]:
    return zones_of(view.machine.zones, view.get("time.zone"), view.get("time.country"))


def _required(text: str, count: int) -> int:
    number = _number(text, count)
    if number is None:
        raise BadAnswer(f"The answer must be a number from 1 to {count + 1}.")
    return number


def _number(text: str, count: int) -> int | None:
    """A number from 1 to ``count``; None where it is none. Raises GoBack for the last entry."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        return None
    number = int(text)
    if number == count + 1:
        raise GoBack
    return number if 1 <= number <= count else None


def _menu(entries: list[str]) -> str:
    rows = [f"{number:2}) {entry}" for number, entry in enumerate([*entries, texts.RETURN], 1)]
    if len(rows) <= 20:
        return "\n".join(rows)
    width = max(map(len, rows)) + 2
    columns = max(1, WIDTH // width)
    height = -(-len(rows) // columns)
    lines = [rows[start::height] for start in range(height)]
    return "\n".join("".join(cell.ljust(width) for cell in line).rstrip() for line in lines)
