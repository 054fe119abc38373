"""Licences of two nodes come to the same set, in whatever order and however often they meet."""

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from openmse.platform.merge import Row, merged, missing
from openmse.platform.store import Line

rows = st.builds(
    lambda text, first, at, is_removed: Row(
        b"" if is_removed else text, Line(first, is_removed, at)
    ),
    st.sampled_from([b"one", b"two"]),
    st.dates(date(2026, 1, 1), date(2026, 1, 5)),
    st.sampled_from(["", "2026-01-01T00:00:00.000+00:00", "2026-01-02T00:00:00.000+00:00"]),
    st.booleans(),
)
copies = st.dictionaries(st.sampled_from("abc"), rows)


@settings(deadline=None)
@given(copies, copies, copies)
def test_the_order_of_meetings_does_not_matter(a: object, b: object, c: object) -> None:
    one, two, three = (dict(copy) for copy in (a, b, c))  # type: ignore[call-overload]
    assert merged(one, two) == merged(two, one)
    assert merged(merged(one, two), three) == merged(one, merged(two, three))
    assert merged(one, one) == one


@settings(deadline=None)
@given(copies, copies)
def test_after_one_exchange_nothing_is_missing(a: object, b: object) -> None:
    one, two = dict(a), dict(b)  # type: ignore[call-overload]
    both = merged(one, two)
    assert missing({**one, **missing(one, both)}, both) == {}
    assert missing(both, merged(both, two)) == {}


@settings(deadline=None)
@given(copies, copies)
def test_an_evaluation_never_begins_later(a: object, b: object) -> None:
    one, two = dict(a), dict(b)  # type: ignore[call-overload]
    for identity, row in merged(one, two).items():
        known = [copy[identity].line for copy in (one, two) if identity in copy]
        assert row.line.first_installed == min(line.first_installed for line in known)
        assert row.line.changed_at == max(line.changed_at for line in known)
