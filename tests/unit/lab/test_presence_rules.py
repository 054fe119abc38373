"""The definition of double presence: certain overlaps are found, handovers are not."""

import random

from openmse.lab.presence_rules import MS, Sign, double_presences


def _sign(node: str, at_ms: float, took_ms: float = 1.0, kind: str = "arp") -> Sign:
    return Sign(node, kind, int(at_ms * MS), int((at_ms + took_ms) * MS))


def _stay(node: str, begin_ms: int, end_ms: int) -> list[Sign]:
    return [_sign(node, at) for at in range(begin_ms, end_ms, 20)]


def test_a_handover_is_no_double_presence() -> None:
    assert double_presences(_stay("mse1", 0, 500) + _stay("mse2", 510, 900)) == []


def test_a_handover_and_back_is_none_either() -> None:
    signs = _stay("mse1", 0, 500) + _stay("mse2", 510, 900) + _stay("mse1", 910, 1200)
    assert double_presences(signs) == []


def test_an_overlap_of_three_probes_is_found() -> None:
    found = double_presences(_stay("mse1", 0, 560) + _stay("mse2", 510, 900))
    assert found
    assert {found[0].first.node, found[0].intruder.node} == {"mse1", "mse2"}
    assert "present" in found[0].sentence


def test_a_single_answer_inside_another_stay_is_found() -> None:
    found = double_presences([*_stay("mse1", 0, 500), _sign("mse2", 251.5, 0.5, "own")])
    assert [proof.intruder.kind for proof in found] == ["own"]


def test_an_answer_whose_instant_is_not_certain_proves_nothing() -> None:
    late = _sign("mse2", 470, 100)  # asked while mse1 still answered, read after it had stopped
    assert double_presences([*_stay("mse1", 0, 500), late]) == []


def test_order_of_the_signs_does_not_matter() -> None:
    signs = _stay("mse1", 0, 560) + _stay("mse2", 510, 900)
    shuffled = random.Random(5).sample(signs, len(signs))
    assert double_presences(shuffled) == double_presences(signs)


def test_nothing_from_nothing() -> None:
    assert double_presences([]) == []
