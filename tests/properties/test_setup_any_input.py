"""Whatever is typed, the wizard never crashes, and never applies without a final yes."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from openmse.setup.checks import Check, Colour
from openmse.setup.errors import BadAnswer
from openmse.setup.menus import GoBack
from openmse.setup.plan import Plan, Source, as_diff, plan_of, review
from openmse.setup.questions import Question
from openmse.setup.screens import GUIDE_MACHINE
from openmse.setup.values import Interface, Machine, View, Zone
from openmse.setup.wizard import Phase, Script, Turn, answer, begin, checked, script_for
from openmse.setup.world import World

ZONES = (Zone("Asia/Tokyo", "JP", "Japan"), Zone("Europe/Paris", "FR", "France"))
MACHINES = (
    replace(GUIDE_MACHINE, zones=ZONES),
    Machine(interfaces=()),
    Machine(interfaces=(Interface(name="ens18"),), role="secondary", is_configured=True),
)
CONFIG = "/etc/openmse/openmse.toml"
WORDS = st.sampled_from(
    [
        *("", "^", "y", "s", "u", "yes", "no", "1", "2", "5", "11", "12", "eth0", "eth1", "none"),
        *("mse1", "10.10.10.11", "10.10.10.12", "10.10.10.1", "255.255.255.0", "24", "console"),
        *("etcd", "other primary", "https://10.10.10.21:2379", "a password", "keep", "UTC"),
    ]
)
LINES = st.lists(st.one_of(WORDS, WORDS, WORDS, st.text(max_size=40)), max_size=60)
RED = (Check("Disk", Colour.RED, "Full.", "Make room."),)
GREEN = (Check("Disk", Colour.GREEN, "Room."),)


def source(view: View) -> Source:
    return Source(view=view, world=World(files={}), config=CONFIG)


def script(machine: Machine) -> Script:
    return script_for(machine, lambda view: review(source(view)))


def advance(wizard: Script, turn: Turn, line: str, checks: tuple[Check, ...]) -> Turn:
    turn = answer(wizard, turn.state, line)
    if turn.state.phase is Phase.CHECKING:
        turn = checked(wizard, turn.state, checks)
    return turn


@given(st.sampled_from(MACHINES), LINES, st.sampled_from([RED, GREEN]))
@settings(max_examples=300, deadline=None)
def test_no_input_crashes_and_only_yes_applies(
    machine: Machine, lines: list[str], checks: tuple[Check, ...]
) -> None:
    wizard = script(machine)
    turn = begin(wizard)
    for line in lines:
        before = turn.state
        turn = advance(wizard, turn, line, checks)
        assert turn.screen is not None
        if turn.state.phase is Phase.APPLY and before.phase is not Phase.APPLY:
            assert line.strip().lower() in ("yes", "y")
            assert before.phase is (Phase.RED if checks == RED else Phase.CONFIRM) or (
                before.phase is Phase.RED
            )
        if before.phase in (Phase.APPLY, Phase.LEFT):
            assert turn.state == before, "what is decided stays"
        if turn.state.phase in (Phase.ASKING, Phase.CONFIRM, Phase.RED):
            assert turn.prompt, "whoever is asked sees a prompt"


def good_line(wizard: Script, turn: Turn, draw: st.DataObject) -> str:
    """A line that the rule of the question takes, found among the words."""
    from openmse.setup.wizard import checked_value, next_question

    question: Question | None = next_question(wizard, turn.state)
    assert question is not None
    for word in draw.draw(st.permutations([*GOOD])):
        try:
            checked_value(wizard, turn.state, question, word)
        except (BadAnswer, GoBack):
            continue
        return word
    raise AssertionError(f"no word is good for {question.id}")


GOOD = ["", "y", "s", "u", "yes", "no", "1", "2", "11", "eth0", "eth1", "none", "mse1"]
GOOD += ["10.10.10.11", "10.10.10.12", "10.10.10.13", "10.10.10.1", "255.255.255.0", "console"]
GOOD += ["etcd", "https://10.10.10.21:2379", "a password", "keep", "5", "ntp.example.net"]


@given(st.sampled_from(MACHINES[:1]), st.data())
@settings(max_examples=150, deadline=None)
def test_any_good_answers_can_be_planned(machine: Machine, data: st.DataObject) -> None:
    wizard = script(machine)
    turn = advance(wizard, begin(wizard), "yes", GREEN)
    while turn.state.phase is Phase.ASKING:
        turn = advance(wizard, turn, good_line(wizard, turn, data), GREEN)
    assert turn.state.phase is Phase.CONFIRM
    view = wizard.view(turn.state)
    end = advance(wizard, turn, "yes", GREEN)
    if end.state.phase is Phase.CONFIRM:
        assert review(source(view)) != []
        return
    plan: Plan = plan_of(source(view))
    shown = as_diff(plan)
    assert "a password" not in shown
    assert "a password" not in repr(plan)
