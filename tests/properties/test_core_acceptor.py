"""Properties of one voter's memory, for any order of any messages."""

from hypothesis import given
from hypothesis import strategies as st

from openmse.ha import acceptor
from openmse.ha.acceptor import Bond
from openmse.ha.messages import Accept, Accepted, Learn, Prepare, Promise, Stamp
from openmse.ha.values import (
    Ballot,
    Config,
    Instant,
    Lineage,
    Mode,
    Record,
    Settings,
    Voter,
    quorum_reached,
)

VOTERS = tuple(Voter(name, name, name == "w") for name in "abw")
BALLOTS = st.builds(Ballot, st.integers(1, 3), st.integers(1, 5), st.sampled_from("abw"))
CONFIGS = st.builds(
    lambda epoch, mode, owner: Config(
        1, epoch, mode, owner, VOTERS, Lineage(1, 1, "a"), Settings()
    ),
    st.integers(1, 6),
    st.sampled_from(Mode),
    st.sampled_from("ab"),
)
STAMP = Stamp("a", "a", 1)
MESSAGES = st.one_of(
    st.builds(lambda b: Prepare(STAMP, b), BALLOTS),
    st.builds(lambda b, v: Accept(STAMP, b, v, None), BALLOTS, CONFIGS),
    st.builds(lambda b, v: Learn(STAMP, b, v), BALLOTS, CONFIGS),
)


def answer(record: Record, message: Prepare | Accept | Learn) -> tuple[Record, object]:
    """What one voter makes of a message."""
    match message:
        case Prepare():
            return acceptor.on_prepare(record, message)
        case Accept():
            return acceptor.on_accept(record, Bond(), message, Instant(1))
        case _:
            return acceptor.on_learn(record, message), None


@given(st.lists(MESSAGES, max_size=30))
def test_a_voter_never_goes_back(messages: list[Prepare | Accept | Learn]) -> None:
    record = Record(me="w", incarnation="w")
    for message in messages:
        after, reply = answer(record, message)
        assert after.promised >= record.promised
        assert after.accepted >= record.accepted
        assert after.chosen >= record.chosen
        assert after.promised >= after.accepted >= after.chosen
        if isinstance(reply, Promise | Accepted):
            assert message.ballot >= record.promised
            assert after.promised == message.ballot
        record = after


@given(CONFIGS, st.frozensets(st.sampled_from("abw")), st.frozensets(st.sampled_from("abw")))
def test_two_quorums_of_one_config_meet(
    config: Config, one: frozenset[str], other: frozenset[str]
) -> None:
    if quorum_reached(config, one) and quorum_reached(config, other):
        assert one & other


@given(CONFIGS, st.frozensets(st.sampled_from("abw")))
def test_a_quorum_of_alone_or_pinned_has_its_owner(config: Config, ids: frozenset[str]) -> None:
    if config.mode is not Mode.SYNC and quorum_reached(config, ids):
        assert config.owner in ids
