"""``/api/v1`` for the steps that an engine describes: what the add wizard shows and sends."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from openmse.console import engine_steps
from openmse.console.api.described import ERRORS, SECURITY, Strict
from openmse.console.context import console_of
from openmse.console.errors import FormError
from openmse.console.nodes.steps import OfferedStep, by_name, form_of_values
from openmse.console.people.access import Administrator

router = APIRouter(
    prefix="/api/v1", tags=["engines and pairs"], responses=ERRORS, dependencies=SECURITY
)
Value = str | float | bool | None


class ChoiceOut(BaseModel):
    """One of several values."""

    value: str
    title: str


class StepFieldOut(BaseModel):
    """What is asked for."""

    name: str
    title: str
    kind: str = Field(description="text, number, switch, choice or secret")
    value: Value = Field(description="what holds now; null for none, and of a secret")
    choices: list[ChoiceOut]
    hint: str
    is_required: bool


class StepOut(BaseModel):
    """A step of the wizard, in the engine's own words."""

    key: str
    title: str
    text: str
    fields: list[StepFieldOut]


class StepsOut(BaseModel):
    """The steps, in their order."""

    steps: list[StepOut]


class StepIn(Strict):
    """Values by the names of the fields; what is left out is not sent, a switch is then off."""

    values: dict[str, Value] = Field(max_length=30)


@router.get("/engines/{engine_id}/steps")
async def steps(request: Request, _principal: Administrator, engine_id: int) -> StepsOut:
    """What the engine asks for after it was added, as it describes it at this moment."""
    found = await engine_steps.read(console_of(request), engine_id)
    return StepsOut(steps=[_step_out(step) for step in found])


@router.post("/engines/{engine_id}/steps/{key}")
async def send_step(
    request: Request, principal: Administrator, engine_id: int, key: str, body: StepIn
) -> StepsOut:
    """Send the values of a step to the engine; the steps as they are then."""
    console = console_of(request)
    step = engine_steps.step_of(await engine_steps.read(console, engine_id), key)
    form = form_of_values(step, body.values)
    try:
        await engine_steps.send(console, request, principal, engine_id, (step, form))
    except FormError as error:
        raise FormError(by_name(step, error.fields)) from error
    found = await engine_steps.read(console, engine_id)
    return StepsOut(steps=[_step_out(one) for one in found])


def _step_out(step: OfferedStep) -> StepOut:
    return StepOut(
        key=step.key,
        title=step.title,
        text=step.text,
        fields=[
            StepFieldOut(
                name=field.name,
                title=field.title,
                kind=field.kind,
                value=None if field.kind == "secret" else _value(field.value),
                choices=[ChoiceOut(value=one.value, title=one.title) for one in field.choices],
                hint=field.hint,
                is_required=field.is_required,
            )
            for field in step.fields
        ],
    )


def _value(value: Any) -> Value:
    found: Value = value
    return found
