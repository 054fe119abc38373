"""What a question is, and an item: the questions behind one (Y)es/(S)kip/(U)se default. Pure data.

A question shows a paragraph and a prompt, suggests the current value in brackets, and has a rule.
"""

from collections.abc import Callable
from dataclasses import dataclass

from openmse.setup.rules import Rule, gate, yes_or_skip
from openmse.setup.values import View

Text = Callable[[View], str]


def says(text: str) -> Text:
    """The same text for every machine."""
    return lambda view: text


def nothing(view: View) -> str:
    """No text."""
    return ""


def always(view: View) -> bool:
    """Asked whatever was answered before."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One prompt. ``id`` names its answer; ``key`` is its place in an answers file."""

    id: str
    prompt: Text
    rule: Rule
    intro: Text = nothing
    suggested: Text = nothing
    """What Enter takes: shown in brackets; '' where something must be typed."""
    fallback: Text = nothing
    """What (U)se default takes; '' where there is none, so that it is asked all the same."""
    shown: Callable[[str], str] = str
    """How a canonical answer stands in the brackets."""
    when: Callable[[View], bool] = always
    is_secret: bool = False
    is_plain: bool = False
    """The prompt stands alone: no brackets, no colon (a menu's '#? ')."""
    key: str = ""
    key_kind: str = "text"
    """In an answers file: text, flag, number, list, or file (a path to a secret)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One step of the wizard: whether to set something, and the questions that do."""

    gate: Question
    questions: tuple[Question, ...] = ()
    when: Callable[[View], bool] = always

    @property
    def id(self) -> str:
        """The gate's."""
        return self.gate.id


def item(
    name: str, what: Text, intro: Text, *questions: Question, when: Callable[[View], bool] = always
) -> Item:
    """An item with the guide's gate; ``what`` is what is configured."""
    question = Question(
        id=name,
        intro=intro,
        prompt=lambda view: f"Configure {what(view)}? (Y)es/(S)kip/(U)se default",
        rule=gate,
        suggested=says("yes"),
        shown=str.capitalize,
    )
    return Item(gate=question, questions=questions, when=when)


def optional_item(
    name: str, what: Text, intro: Text, *questions: Question, when: Callable[[View], bool] = always
) -> Item:
    """An item of which there is no default."""
    question = Question(
        id=name,
        intro=intro,
        prompt=lambda view: f"Configure {what(view)}? (Y)es/(S)kip",
        rule=yes_or_skip,
        suggested=says("yes"),
        shown=str.capitalize,
    )
    return Item(gate=question, questions=questions, when=when)
