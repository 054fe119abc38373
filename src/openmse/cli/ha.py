"""``mse ha``: the list of its commands. Each lives in a module of its own subject."""

import click

from openmse.cli.lazy import LazyGroup

_MOVE, _PAIR, _PAST = "openmse.cli.ha_move", "openmse.cli.ha_pair", "openmse.cli.ha_past"


@click.group(
    cls=LazyGroup,
    lazy={
        "status": ("openmse.cli.ha_status:status", "Who owns, is the pair in step, what is wrong."),
        "doctor": ("openmse.cli.ha_doctor:doctor", "Each finding with its next action."),
        "switchover": (f"{_MOVE}:switchover", "Hand the service over to the other node."),
        "failback": (f"{_MOVE}:failback", "Hand it back to the configured primary."),
        "takeover": (f"{_MOVE}:takeover", "Force this node to own, with a possible loss."),
        "maintenance": (f"{_MOVE}:maintenance", "While on, nobody takes over."),
        "confirm-alone": (f"{_MOVE}:confirm_alone", "Serve although nobody answered at boot."),
        "release-protect": (f"{_MOVE}:release_protect", "Let writes go on without the peer."),
        "rejoin": (f"{_MOVE}:rejoin", "Leave the quarantine and try again."),
        "drill": ("openmse.cli.ha_drill:drill", "Rehearse a switchover and the way back."),
        "pair": (f"{_PAIR}:pair", "Make a pair of this primary and a secondary."),
        "unpair": (f"{_PAIR}:unpair", "Dissolve the pair."),
        "readmit": (f"{_PAIR}:readmit", "Wait for a new machine in place of a lost one."),
        "witness": (f"{_PAIR}:witness", "Replace or remove the third vote."),
        "settings": ("openmse.cli.ha_settings:settings", "Show or change the group's settings."),
        "events": (f"{_PAST}:events", "What has happened, in sentences."),
        "journal": (f"{_PAST}:journal", "The decision journal: list, show, replay."),
    },
)
def ha() -> None:
    """Everything about the pair: seeing, moving, pairing, rehearsing."""
