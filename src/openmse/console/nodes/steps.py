"""Steps of the wizard that an engine describes: what is shown, and what is sent. Pure.

An engine's word is not trusted further than to itself: a step whose call is not of its own API, or
that this console does not know how to show, is left out.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from openmse.console.errors import FormError

STEPS_MAX = 10
FIELDS_MAX = 30
CHOICES_MAX = 100
TITLE_MAX = 100
VALUE_MAX = 4000
WHOLE_MAX = 2**53
"""Up to here every whole number is one in JSON everywhere."""
RESERVED = frozenset(("connect", "trust", "claim", "licensing", "done"))
"""Keys of the console's own steps."""
_KEY = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PATH = re.compile(r"/v1(/[a-z0-9_-]+){1,6}")
_KINDS = ("text", "number", "switch", "choice", "secret")
_METHODS = ("PATCH", "PUT", "POST")


class Choice(Struct, frozen=True):
    """One of several values."""

    value: str = ""
    title: str = ""


class StepField(Struct, frozen=True):
    """What is asked for."""

    name: str = ""
    title: str = ""
    kind: str = "text"
    value: str | float | bool | None = None
    choices: tuple[Choice, ...] = ()
    hint: str = ""
    is_required: bool = False

    @property
    def key(self) -> str:
        """Its name in a form; what is secret is taken as it was typed, blanks included."""
        return f"password-{self.name}" if self.kind == "secret" else f"field-{self.name}"

    @property
    def shown(self) -> str:
        """What holds now, as a form has it."""
        if self.kind == "secret" or self.value is None or self.value is False:
            return ""
        if isinstance(self.value, bool):
            return "1"
        if isinstance(self.value, float) and self.value.is_integer():
            return f"{self.value:.0f}"
        return str(self.value)


class OfferedStep(Struct, frozen=True):
    """One step."""

    key: str = ""
    title: str = ""
    text: str = ""
    method: str = "PATCH"
    path: str = ""
    fields: tuple[StepField, ...] = ()


def usable(steps: tuple[OfferedStep, ...]) -> tuple[OfferedStep, ...]:
    """Those that can be shown and sent, each key once."""
    found: dict[str, OfferedStep] = {}
    for step in steps[:STEPS_MAX]:
        if _is_usable(step):
            found.setdefault(step.key, step)
    return tuple(found.values())


def _is_usable(step: OfferedStep) -> bool:
    names = [field.name for field in step.fields]
    return bool(
        _KEY.fullmatch(step.key)
        and step.key not in RESERVED
        and 0 < len(step.title) <= TITLE_MAX
        and step.method in _METHODS
        and _PATH.fullmatch(step.path)
        and 0 < len(names) <= FIELDS_MAX
        and len(set(names)) == len(names)
        and all(_is_field(field) for field in step.fields)
    )


def _is_field(field: StepField) -> bool:
    has_choices = 0 < len(field.choices) <= CHOICES_MAX
    is_titled = 0 < len(field.title) <= TITLE_MAX
    is_known = field.kind in _KINDS and (has_choices or field.kind != "choice")
    return bool(_NAME.fullmatch(field.name)) and is_titled and is_known


def body_of(step: OfferedStep, form: Mapping[str, str]) -> dict[str, Any]:
    """What is sent, from a form by the keys of the fields; raises FormError."""
    body: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field in step.fields:
        text = form.get(field.key, "")
        if field.kind == "switch":
            body[field.name] = bool(text)
        elif not text:
            if field.is_required:
                faults[field.key] = "This is needed."
        else:
            body[field.name], fault = _value(field, text)
            if fault:
                faults[field.key] = fault
    if faults:
        raise FormError(faults)
    return body


def _value(field: StepField, text: str) -> tuple[str | float, str]:
    """The value, and what is wrong with it."""
    if len(text) > VALUE_MAX:
        return "", f"{VALUE_MAX} characters at most."
    if field.kind == "choice":
        is_one = text in [choice.value for choice in field.choices]
        return text, "" if is_one else "Choose one of the values."
    if field.kind != "number":
        return text, ""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return 0, "A number such as 5 or 2.5."
    return int(number) if number.is_integer() and abs(number) < WHOLE_MAX else number, ""


def form_of_values(step: OfferedStep, values: Mapping[str, Any]) -> dict[str, str]:
    """Values by the fields' own names as a form has them; raises FormError for unknown ones."""
    fields = {field.name: field for field in step.fields}
    strange = {name[:64]: "This step has no such field." for name in values if name not in fields}
    if strange:
        raise FormError(strange)
    form = {}
    for name, value in values.items():
        is_off = value is None or value is False
        form[fields[name].key] = "" if is_off else "1" if value is True else str(value)
    return form


def by_name(step: OfferedStep, faults: Mapping[str, str]) -> dict[str, str]:
    """Faults of a form by the fields' own names."""
    names = {field.key: field.name for field in step.fields}
    return {names.get(key, key): text for key, text in faults.items()}


def by_key(step: OfferedStep, faults: Mapping[str, str]) -> dict[str, str]:
    """What the engine found wrong, by the fields of the form."""
    keys = {field.name: field.key for field in step.fields}
    return {keys[name]: text for name, text in faults.items() if name in keys}
