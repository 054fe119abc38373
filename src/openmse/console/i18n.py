"""Languages: gettext catalogues in ``locales/``, compiled when the console starts; none in code."""

import gettext
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LOCALES = Path(__file__).parent / "locales"
LANGUAGES = {"en": "English", "ja": "日本語"}
DEFAULT = "en"


@cache
def translations(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; English is the language of the messages themselves."""
    path = LOCALES / language / "LC_MESSAGES" / "console.po"
    if language == DEFAULT or language not in LANGUAGES or not path.exists():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def chosen(wishes: Sequence[str], accept_language: str) -> str:
    """The first wish that is a language of ours, else what the browser prefers, else English."""
    for wish in wishes:
        if wish in LANGUAGES:
            return wish
    ranked: list[tuple[float, int, str]] = []
    for part in accept_language.split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            weight = 0.0
        ranked.append((-weight, len(ranked), tag[:2].lower()))
    for _, _, tag in sorted(ranked):
        if tag in LANGUAGES:
            return tag
    return DEFAULT
