"""What documents say of each other: links that lead somewhere, an index that is whole."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = ROOT / "docs" / "adr"
_LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = [found["target"] for found in _LINK.finditer(page.read_text())]
    inside = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in inside if not (page.parent / target).exists()] == []


def test_every_page_is_linked_from_the_first_one() -> None:
    """A page that nobody is led to is not read; those of a folder are led to by its index."""
    linked = {
        (ROOT / found["target"]).resolve()
        for found in _LINK.finditer((ROOT / "README.md").read_text())
    }
    wanted = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "runbooks").glob("*.md")]
    assert [page.name for page in wanted if page.resolve() not in linked] == []


def test_the_index_of_decisions_is_whole() -> None:
    index = (DECISIONS / "README.md").read_text()
    rows = [line for line in index.splitlines() if re.match(r"\| \d+ \|", line)]
    wanted = []
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        heading = path.read_text().splitlines()[0]
        number, dot, title = heading.removeprefix("# ").partition(". ")
        assert dot, heading
        assert int(number) == int(path.name[:4]), heading
        wanted.append(f"| {number} | [{title}]({path.name}) |")
    assert rows == wanted
