"""Every sentence of a template is in every catalogue, with the same places for values."""

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from jinja2 import Environment

from openmse.console.i18n import LANGUAGES, LOCALES, chosen, translations
from openmse.console.rendering import TEMPLATES
from openmse.console.words import WORDS

_PLACES = re.compile(r"%\(\w+\)[sd]")


def _marked() -> set[str]:
    environment = Environment(
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"], trim_blocks=True, lstrip_blocks=True
    )
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    found = set(WORDS)
    for path in TEMPLATES.rglob("*.html"):
        for _, _, message in environment.extract_translations(path.read_text("utf-8")):
            parts = message if isinstance(message, tuple) else (message,)
            found |= {part for part in parts[:1] if part}
    return found


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one != "en"])
def test_a_catalogue_is_complete_and_has_nothing_too_much(language: str) -> None:
    """A sentence that is missing would be shown in English in the midst of others."""
    path: Path = LOCALES / language / "LC_MESSAGES" / "console.po"
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    kept = {(m.id if isinstance(m.id, str) else m.id[0]): m for m in catalogue if m.id}
    assert _marked() - set(kept) == set()
    assert set(kept) - _marked() == set()
    for key, message in kept.items():
        texts = [message.string] if isinstance(message.string, str) else list(message.string)
        for text in texts:
            assert text, key
            assert set(_PLACES.findall(text)) == set(_PLACES.findall(key)), key


def test_the_language_is_the_person_s_then_the_browser_s() -> None:
    """And English where neither is known."""
    assert chosen(("ja", "en"), "en") == "ja"
    assert chosen(("", "xx"), "fr;q=0.9, ja;q=0.8, en;q=0.7") == "ja"
    assert chosen((), "en-GB,en;q=0.9,ja;q=0.8") == "en"
    assert chosen((), "q=;;;") == "en"
    assert translations("ja").gettext("Engines") == "エンジン"
    assert translations("en").gettext("Engines") == "Engines"
