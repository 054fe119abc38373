"""Steps that a part of the product adds to the wizard of a console: values only. Pure.

A part describes what it asks for and which call of the management API takes it; a console shows
the step, checks what is typed by the description, and sends it there. So a step that is added here
needs no change in any console.
"""

from enum import StrEnum

from msgspec import Struct


class FieldKind(StrEnum):
    """How a field is shown, and the JSON type of its value."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    """true or false."""
    CHOICE = "choice"
    """The text ``value`` of one of the choices."""
    SECRET = "secret"
    """A text that is never shown or kept."""


class Choice(Struct, frozen=True, kw_only=True):
    """One of several values."""

    value: str
    title: str


class StepField(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    name: str
    """Of the field in the body that is sent: a-z, 0-9 and _, a letter first."""
    title: str
    kind: FieldKind = FieldKind.TEXT
    value: str | float | bool | None = None
    """What holds now, by the kind; null for none. Never of a secret."""
    choices: tuple[Choice, ...] = ()
    hint: str = ""
    is_required: bool = False
    """Otherwise a field that was left empty is not sent."""


class OfferedStep(Struct, frozen=True, kw_only=True):
    """One step, shown after the engine was added."""

    key: str
    """a-z, 0-9 and -, a letter first; it stands in the page's address."""
    title: str
    text: str = ""
    """A sentence or two on what it is for."""
    method: str = "PATCH"
    """PATCH, PUT or POST."""
    path: str
    """Of this API, such as ``/v1/tracking``; it gets one JSON object with the fields."""
    fields: tuple[StepField, ...]
