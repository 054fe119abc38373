"""docs/generated/management-openapi.json is what the application says of itself.

Write it anew with: OPENMSE_REWRITE=1 pytest tests/unit/api/test_api_description.py
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from openmse.api.app import build, describe

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "docs" / "generated" / "management-openapi.json"
PAGE = ROOT / "docs" / "management-api.md"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The description."""
    found: dict[str, Any] = json.loads(json.dumps(describe(build(None))))
    return found


def test_the_file_is_true(told: dict[str, Any]) -> None:
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("OPENMSE_REWRITE"):
        FILE.write_text(text)
    assert FILE.read_text() == text, __doc__


def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    wanted = set(re.findall(r"#/components/schemas/([\w.-]+)", json.dumps(told)))
    assert wanted <= set(told["components"]["schemas"])


def test_everything_but_the_greetings_needs_credentials(told: dict[str, Any]) -> None:
    free = [
        path
        for path, item in told["paths"].items()
        for operation in item.values()
        if not operation.get("security")
    ]
    assert free == ["/v1/hello", "/v1/candidate"]


def test_every_path_is_on_the_page_and_none_else(told: dict[str, Any]) -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[\w/{}-]+)", text))
    named |= {("POST", "/v1/ha/confirm-alone"), ("POST", "/v1/ha/release-protect")}
    known = {
        (method.upper(), re.sub(r"{\w+_id}", "{id}", path))
        for path, item in told["paths"].items()
        for method in item
    }
    assert known == named


def test_secrets_are_marked(told: dict[str, Any]) -> None:
    schema = told["components"]["schemas"]["PairBody"]["properties"]["password"]
    assert (schema["format"], schema["writeOnly"]) == ("password", True)
