"""Templates: one environment for each language, strict about what is missing."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from openmse import __version__
from openmse.console import filters
from openmse.console.i18n import LANGUAGES, translations

TEMPLATES = Path(__file__).parent / "templates"


class Templates:
    """Renders templates and cells in a language."""

    def __init__(self, console_name: str) -> None:
        self._console_name = console_name

    @cached_property
    def _environments(self) -> Mapping[str, Environment]:
        return {language: self._environment(language) for language in LANGUAGES}

    def page(self, name: str, language: str, values: Mapping[str, Any]) -> str:
        """A whole template."""
        return self._environments[language].get_template(name).render(values)

    def cells(self, name: str, language: str, values: Mapping[str, Any]) -> dict[str, Markup]:
        """The macros of a template whose names begin with ``cell_``, rendered, by their name."""
        module = self._environments[language].get_template(name).make_module(dict(values))
        found = {}
        for attribute, macro in vars(module).items():
            if attribute.startswith("cell_"):
                text = " ".join(str(macro()).split("\n")).strip()
                found[attribute.removeprefix("cell_")] = Markup(text)
        return found

    def _environment(self, language: str) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        )
        catalogue = translations(language)
        environment.install_gettext_translations(catalogue, newstyle=True)  # type: ignore[attr-defined]
        environment.globals.update(
            language=language,
            languages=LANGUAGES,
            product_version=__version__,
            console_name=self._console_name,
        )
        environment.filters.update(filters.all_filters(language, catalogue.gettext))
        return environment
