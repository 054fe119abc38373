"""What the routes of the API have in common: errors, how one is known, files."""

from typing import Any, Self

from fastapi import Response, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from openmse.console.people.access import COOKIE


class Strict(BaseModel):
    """Bodies with unknown fields are refused: a typing error must not pass for a wish."""

    model_config = ConfigDict(extra="forbid")


class ErrorOut(BaseModel):
    """What went wrong: ``code`` is stable, ``hint`` says what to do next."""

    code: str
    sentence: str
    hint: str
    status: int
    fields: dict[str, str] = Field(description="field of the body -> what is wrong with it")


class ErrorAnswer(BaseModel):
    """Every refusal and failure of this API."""

    error: ErrorOut


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "Refused; nothing was changed."},
    "5XX": {"model": ErrorAnswer, "description": "An engine or the store does not answer."},
}
"""For the description of every route."""

_SHAPE = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
FILE_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": found["description"], "content": _SHAPE}
    for status, found in ERRORS.items()
}
"""The same where what is answered otherwise is no JSON, which FastAPI would say of errors, too."""

SECURITY = [
    Security(
        HTTPBearer(
            scheme_name="token",
            bearerFormat="msec_…",
            description="A token (POST /api/v1/tokens, or the page of oneself).",
            auto_error=False,
        )
    ),
    Security(
        APIKeyCookie(
            name=COOKIE,
            scheme_name="session",
            description="A browser's session; changes then need X-CSRF-Token, too.",
            auto_error=False,
        )
    ),
]
"""How one is known, for the description; who may do what, ``people.access`` decides."""


class CsvResponse(Response):
    """A file for spreadsheets."""

    media_type = "text/csv"

    @classmethod
    def named(cls, name: str, text: str) -> Self:
        """A file that a browser keeps under that name."""
        return cls(text, headers={"Content-Disposition": f'attachment; filename="{name}"'})
