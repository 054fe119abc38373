"""The page of a demo: self-contained, complete, honest when something went wrong."""

import re
from html.parser import HTMLParser

import msgspec
from story_example import EVENTS, story

from openmse.lab.report import page
from openmse.lab.report_story import Story


class _Balance(HTMLParser):
    """Fails on a tag that is closed and was not opened, or never closed."""

    VOID = frozenset({"meta", "br", "rect", "line", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_is_well_formed_and_names_every_event() -> None:
    text = page(story())
    parser = _Balance()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    for title, *_ in EVENTS:
        assert text.count(title) >= 3  # in its picture, its card and the table


def test_no_request_leaves_it() -> None:
    text = page(story())
    assert not re.search(r"""(src|href|action|url|@import|https?:)\s*[=(:]""", text)
    assert "<script" not in text


def test_a_good_run_says_so_and_a_bad_one_does_not() -> None:
    assert "Nothing acknowledged was lost" in page(story())
    bad = page(story("3 rows <were> lost."))
    assert "Nothing acknowledged was lost" not in bad
    assert "3 rows &lt;were&gt; lost." in bad


def test_it_is_made_for_phones_and_for_the_dark() -> None:
    text = page(story())
    assert 'name="viewport"' in text
    assert "prefers-color-scheme:dark" in text
    assert "max-width:640px" in text


def test_a_story_survives_its_file() -> None:
    made = story()
    again = msgspec.json.decode(msgspec.json.encode(made), type=Story)
    assert page(again) == page(made)


def test_serving_stretches_and_gaps_agree() -> None:
    made = story()
    assert {stretch.machine for stretch in made.served} == {"mse1", "mse2"}
    longest = max(end - begin for begin, end in made.gaps)
    assert abs(longest / 1e9 - 5.32) < 0.05
    assert [s.word for s in made.states if s.machine == "mse1"][:2] == [
        "PRIMARY_ACTIVE",
        "TERMINATED",
    ]
