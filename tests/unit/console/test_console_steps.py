"""Steps that an engine describes: which are shown, and what is made of a form."""

import msgspec
import pytest

from openmse.console.errors import FormError
from openmse.console.nodes.models import Info
from openmse.console.nodes.steps import (
    Choice,
    OfferedStep,
    StepField,
    body_of,
    by_key,
    by_name,
    form_of_values,
    usable,
)
from openmse.platform.steps import FieldKind
from openmse.platform.steps import OfferedStep as Described
from openmse.platform.steps import StepField as DescribedField

FIELDS = (
    StepField("name", "Name", is_required=True),
    StepField("every_s", "Every", "number", 5.0),
    StepField("is_on", "On", "switch", True),
    StepField("kind", "Kind", "choice", "a", (Choice("a", "A"), Choice("b", "B"))),
    StepField("word", "Password", "secret", "never shown"),
)
STEP = OfferedStep("tracking", "Tracking", "", "PUT", "/v1/tracking/sources", FIELDS)


def test_a_form_becomes_what_is_sent() -> None:
    form = {
        "field-name": "north",
        "field-every_s": "2.5",
        "field-kind": "b",
        "password-word": " blank ",
    }
    assert body_of(STEP, form) == {
        "name": "north",
        "every_s": 2.5,
        "is_on": False,
        "kind": "b",
        "word": " blank ",
    }
    assert body_of(STEP, {"field-name": "x", "field-is_on": "1"}) == {"name": "x", "is_on": True}
    whole = body_of(STEP, {"field-name": "x", "field-every_s": "3.0"})["every_s"]
    assert (whole, type(whole)) == (3, int)


def test_what_cannot_be_sent_is_told_by_its_field() -> None:
    form = {"field-every_s": "inf", "field-kind": "c", "password-word": "x" * 4001}
    with pytest.raises(FormError) as found:
        body_of(STEP, form)
    named = by_name(STEP, found.value.fields)
    assert set(named) == {"name", "every_s", "kind", "word"}
    assert by_key(STEP, {**named, "elsewhere": "x"}) == found.value.fields


def test_what_holds_is_shown_but_no_secret() -> None:
    assert [field.shown for field in FIELDS] == ["", "5", "1", "a", ""]


def test_values_of_a_program_are_a_form() -> None:
    form = form_of_values(STEP, {"name": "x", "every_s": 2, "is_on": True, "kind": None})
    assert body_of(STEP, form) == {"name": "x", "every_s": 2, "is_on": True}
    with pytest.raises(FormError) as found:
        form_of_values(STEP, {"nam": "x"})
    assert set(found.value.fields) == {"nam"}


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "Tracking"},
        {"key": "claim"},
        {"key": "a/b"},
        {"title": ""},
        {"title": "x" * 101},
        {"method": "DELETE"},
        {"path": "https://elsewhere.example/v1/x"},
        {"path": "/v1/../x"},
        {"path": "/v1/x?force=1"},
        {"path": "//v1/x"},
        {"fields": ()},
        {"fields": FIELDS + FIELDS[:1]},
        {"fields": (StepField("map", "Map", "map"),)},
        {"fields": (StepField("kind", "Kind", "choice"),)},
        {"fields": (StepField("a b", "A"),)},
        {"fields": tuple(StepField(f"f{n}", "F") for n in range(31))},
    ],
)
def test_what_a_console_does_not_know_is_left_out(changed: dict[str, object]) -> None:
    other = msgspec.structs.replace(STEP, key="other")
    assert usable((msgspec.structs.replace(STEP, **changed), other)) == (other,)


def test_a_key_stands_once() -> None:
    again = msgspec.structs.replace(STEP, title="Again")
    assert usable((STEP, again)) == (STEP,)
    many = tuple(msgspec.structs.replace(STEP, key=f"s{n}") for n in range(20))
    assert len(usable(many)) == 10


def test_what_an_engine_describes_is_what_a_console_reads() -> None:
    """Both ends have types of their own: an engine may be newer than its console."""
    kinds = [DescribedField(name=f"f_{k}", title=k, kind=k) for k in FieldKind if k != "choice"]
    described = Described(key="maps", title="Maps", path="/v1/maps", fields=tuple(kinds))
    data = msgspec.json.encode({"node": "mse1", "steps": [described]})
    (read,) = usable(msgspec.json.decode(data, type=Info).steps)
    assert [field.kind for field in read.fields] == ["text", "number", "switch", "secret"]
    assert (read.method, read.path) == ("PATCH", "/v1/maps")
