"""The wizard's machine: going back, skipping, defaults, and what the answers then are."""

import pytest
from msgspec.structs import replace

from openmse.setup.checks import Check, Colour
from openmse.setup.screens import GUIDE_MACHINE, PRIMARY, SECONDARY, Player, played
from openmse.setup.terminal import fitted
from openmse.setup.values import Interface, Machine, View, Zone, chosen_zone
from openmse.setup.wizard import (
    LINE_MAX,
    Phase,
    State,
    answer,
    begin,
    next_question,
    script_for,
)

RED = (Check("Gateway", Colour.RED, "Nobody answers.", "Look."),)
GREEN = (Check("Gateway", Colour.GREEN, "It answers."),)
ZONES = (
    Zone("Asia/Tokyo", "JP", "Japan"),
    Zone("America/New_York", "US", "United States", "Eastern"),
    Zone("America/Chicago", "US", "United States", "Central"),
    Zone("America/Lima", "PE", "Peru"),
)
TO_TIME_ZONE = ["", "s", "s", "s", "s", "s", "s", ""]


def machine(**changes: object) -> Machine:
    return replace(GUIDE_MACHINE, **changes)


def answers(player: Player) -> dict[str, str]:
    return dict(player.state.answers)


@pytest.mark.parametrize("typed", [PRIMARY, SECONDARY], ids=["primary", "secondary"])
def test_back_and_again_at_each_question_changes_nothing(typed: tuple[str, ...]) -> None:
    straight = played(typed[:-1])
    assert straight.state.phase is Phase.CONFIRM
    for place in range(1, len(typed)):
        player = played(typed[:place])
        before = player.state.answers
        asked = player.turn.prompt
        player.type(["^"])
        assert len(player.state.trail) < len(before)
        assert player.state.phase is Phase.ASKING
        player.type([typed[place - 1]])
        assert player.state.answers == before
        assert player.turn.prompt == asked
        player.type(typed[place:-1])
        assert answers(player) == answers(straight)


def test_what_was_typed_before_a_step_back_is_suggested() -> None:
    player = played(PRIMARY[:3])
    player.type(["^"])
    assert player.turn.prompt == "Enter a host name [mse1]: "
    player.type(["", "^", "^", "^", "^", ""])
    assert player.turn.prompt.startswith("Configure hostname?")


def test_before_the_first_question_there_is_nothing() -> None:
    player = played(["^"])
    assert "There is no step before this one." in player.screen
    assert player.state.trail == ()


def test_a_skipped_item_after_a_step_back_forgets_its_answers() -> None:
    player = played(["", "", "mse1", "^", "^", "s"])
    assert answers(player) == {"wizard": "yes", "hostname": "skip"}


def test_no_at_the_end_keeps_what_was_typed() -> None:
    player = played([*PRIMARY[:-1], "no"])
    assert player.turn.prompt.startswith("Configure hostname?")
    player.type(["", "", "s", "", "", "", "", "", "", "no"])
    found = answers(player)
    assert (found["hostname.name"], found["ha.virtual_ip"]) == ("mse1", "10.10.10.11")


def test_setting_up_manually_leaves() -> None:
    player = played(["no"])
    assert player.state.phase is Phase.LEFT
    assert "Nothing was changed." in player.screen


def test_everything_skipped_is_unchanged() -> None:
    player = played(["", *["s"] * 12])
    assert player.state.phase is Phase.CONFIRM
    assert "Configuration Unchanged" in player.screen
    assert "-----BEGIN-----\n\n-----END-----" in player.screen


def test_only_yes_at_the_end_leads_on_and_red_checks_ask_again() -> None:
    script = script_for(GUIDE_MACHINE, lambda view: [])
    player = Player(script, RED)
    player.type([*PRIMARY[:-1], "perhaps", ""])
    assert player.state.phase is Phase.CONFIRM
    player.type(["yes"])
    assert player.state.phase is Phase.RED
    assert "What to do: Look." in player.screen
    player.type(["apply"])
    assert player.state.phase is Phase.RED
    player.type(["^"])
    assert player.state.phase is Phase.CONFIRM
    player.type(["YES", "y"])
    assert player.state.phase is Phase.APPLY


def test_green_checks_lead_straight_to_applying() -> None:
    player = Player(script_for(GUIDE_MACHINE, lambda view: []), GREEN)
    player.type(PRIMARY)
    assert player.state.phase is Phase.APPLY
    assert "[   green   ] Gateway: It answers." in player.screen


def test_faults_of_all_answers_together_are_told_before_the_checks() -> None:
    player = Player(script_for(GUIDE_MACHINE, lambda view: ["The two differ."]), GREEN)
    player.type(PRIMARY)
    assert player.state.phase is Phase.CONFIRM
    assert "The two differ." in player.screen


def test_the_default_takes_what_there_is_and_asks_the_rest() -> None:
    player = played(["", "u", "u", "u"])
    assert player.turn.prompt == "Enter Virtual IP address [1.1.1.1]: "
    player.type(["10.10.10.11"])
    assert "Enter network mask" in player.turn.prompt, "1.1.1.1 is no mask, so a person must say"
    player.type(["255.255.255.0"])
    found = answers(player)
    assert found["hostname.name"] == "mse"
    assert found["domain.name"] == ""
    assert (found["ha.role"], found["ha.direct_interface"]) == ("primary", "none")
    assert found["ha.recovery"] == "no"
    player.type(["^"])
    assert "ha.recovery" not in answers(player), "what nobody was asked is taken back too"
    assert player.turn.prompt.startswith("Enter network mask")


def test_the_default_of_the_second_interface_is_disabled() -> None:
    with_two = machine(
        interfaces=(
            Interface(name="eth0", address="10.0.0.1", netmask="255.0.0.0"),
            Interface(name="eth1", address="1.1.1.1", netmask="255.255.255.0"),
        )
    )
    player = played(["", "s", "s", "s", "s", "u"], with_two)
    assert answers(player)["eth1"] == "default"
    assert "eth1.address" not in answers(player)
    assert player.script.view(player.state).address("eth1") == ("", "")
    player.type(["s"] * 8)
    assert "Eth1=disabled" in player.screen


def test_the_interfaces_are_those_of_the_machine() -> None:
    player = played(
        ["", "s", "s", "", "", ""],
        machine(interfaces=(Interface(name="ens18"),), gateway=""),
    )
    assert player.turn.prompt == "Select direct connect interface [ens18/none] [none]: "
    player.type(["", "10.10.10.11", "24", "no", "", "10.10.10.12"])
    assert "Enter ens18 IP address: 10.10.10.12" in player.screen
    player.type(["24", "none"])
    assert player.turn.prompt.startswith("Configure DNS"), "there is no second interface"


def test_a_virtual_ip_outside_the_subnet_is_refused_with_the_rule() -> None:
    typed = ["", "s", "s", "", "", "", "", "10.10.20.11", "24", "no", "", "10.10.10.12", "24"]
    player = played(typed)
    assert "must be in the same\nsubnet" in player.screen
    assert player.turn.prompt.startswith("Enter network mask")


def test_a_virtual_ip_that_is_the_own_address_is_refused() -> None:
    typed = ["", "s", "s", "", "", "", "", "10.10.10.12", "24", "no", "", "10.10.10.12"]
    assert "must differ" in played(typed).screen


def test_a_secondary_is_not_asked_for_what_the_primary_decides() -> None:
    player = played(SECONDARY[:-1])
    found = answers(player)
    for question in ("ha.virtual_ip", "ha.recovery", "wait", "witness", "peer"):
        assert question not in found
    assert "pairing.password" in found


def test_two_passwords_must_be_the_same() -> None:
    place = PRIMARY.index("correct horse battery")
    player = played([*PRIMARY[:place], "short", "correct horse", "other horse"])
    assert "8 to 256 printable" in player.screen
    assert "must be the same" in player.screen
    assert player.turn.is_secret
    player.type(["^"])
    assert player.turn.prompt == "Enter a management password: "


def test_the_menus_of_the_time_zone() -> None:
    player = played(TO_TIME_ZONE, machine(zones=ZONES))
    assert "12) Return to previous setup step (^)." in player.turn.text
    player.type(["13", "x", "7"])
    assert player.screen.count("The answer must be") == 3  # no zone of Australia is known here
    player.type(["2"])
    assert "Please select a country" in player.turn.text
    assert " 1) Peru\n 2) United States" in player.turn.text
    player.type(["2"])
    assert "Eastern" in player.turn.text
    player.type(["2"])
    assert chosen_zone(player.script.view(player.state)) == "America/Chicago"


def test_a_country_with_one_zone_needs_no_third_menu() -> None:
    player = played([*TO_TIME_ZONE, "5", "1"], machine(zones=ZONES))
    assert chosen_zone(player.script.view(player.state)) == "Asia/Tokyo"
    assert player.turn.prompt.startswith("Configure NTP")


def test_the_menus_entry_to_return_is_a_step_back() -> None:
    player = played([*TO_TIME_ZONE, "2", "3"], machine(zones=ZONES))
    assert "continent or ocean" in player.turn.text
    player.type(["12"])
    assert player.turn.prompt.startswith("Configure timezone?")


def test_the_full_name_of_a_zone_may_be_typed() -> None:
    player = played([*TO_TIME_ZONE, "Asia/Tokyo"], machine(zones=ZONES))
    assert chosen_zone(player.script.view(player.state)) == "Asia/Tokyo"


def test_a_narrow_terminal_breaks_lines_between_words() -> None:
    text = "  a line that is longer than it may be\nShort\n\nEnter a host name of this [mse]: "
    assert fitted(text, 20) == (
        "  a line that is\n  longer than it may\n  be\nShort\n\nEnter a host name of this [mse]: "
    )
    assert fitted(text, 80) == text
    sentence = "has words beyond the edge\nof it.\nAnother. 1) One\n 2) Two\n\n"
    assert fitted(sentence, 20) == "has words beyond the\nedge of it.\nAnother. 1) One\n 2) Two\n\n"


def test_without_ntp_the_date_and_time_are_asked_for() -> None:
    player = played(["", *["s"] * 7, "", "no", "tomorrow", "2026-01-31 17:05"])
    assert "YYYY-MM-DD hh:mm:ss" in player.screen
    assert answers(player)["ntp.clock"] == "2026-01-31 17:05:00"


def test_etcd_asks_for_its_endpoints_and_files() -> None:
    player = played(["", *["s"] * 9, "", "etcd", "10.10.10.21", "https://10.10.10.21:2379"])
    player.type(["etc/ca.crt", "/etc/openmse/etcd/ca.crt", "none", "", "s", "s"])
    assert "is not an endpoint" in player.screen
    assert "beginning with '/'" in player.screen
    assert "Witness=etcd, Witness address=https://10.10.10.21:2379" in player.screen


def test_no_witness_is_explained_before_it_is_chosen() -> None:
    player = played(["", *["s"] * 9, ""])
    text = " ".join(player.turn.text.split())
    assert "With none, nobody takes over by itself" in text
    assert "both serve for a while" in text


def test_a_line_that_is_too_long_is_refused() -> None:
    script = script_for(GUIDE_MACHINE, lambda view: [])
    turn = answer(script, begin(script).state, "y" * (LINE_MAX + 1))
    assert turn.state == State()
    assert "at most" in turn.text


def test_a_question_looks_only_at_what_comes_before_it() -> None:
    """Otherwise a later answer could open an earlier question, and ``^`` would lose its way."""
    for typed in (PRIMARY, SECONDARY):
        player = played(typed[:-1])
        trail = player.state.trail
        for place, given in enumerate(trail):
            question = next_question(player.script, State(trail[:place]))
            assert question is not None
            assert question.id == given.id
        assert next_question(player.script, player.state) is None


def test_the_view_of_a_bare_machine() -> None:
    view = View(Machine(interfaces=()), {})
    assert (view.health_interface, view.gateway, view.virtual) == ("", "", ("", ""))
