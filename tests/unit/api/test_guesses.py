"""How wrong guesses are counted: waits that grow, memory that does not. Pure."""

import random

import pytest

from openmse.api.guesses import (
    ADDRESS_FREE,
    ADDRESS_MAX_S,
    FORGET_AFTER_S,
    USER_FREE,
    USER_MAX_S,
    Guesses,
    address_key,
    wait_s,
)


def test_waits_double_up_to_a_bound() -> None:
    waits = [wait_s(wrong, ADDRESS_FREE, ADDRESS_MAX_S) for wrong in range(1, 20)]
    assert waits[:8] == [0, 0, 0, 0, 1, 2, 4, 8]
    assert waits[-1] == ADDRESS_MAX_S
    assert wait_s(10**9, ADDRESS_FREE, ADDRESS_MAX_S) == ADDRESS_MAX_S


def test_an_address_is_refused_and_another_is_not() -> None:
    memory = Guesses()
    for _ in range(ADDRESS_FREE):
        assert memory.refused_s("10.0.0.1", "admin", 100.0) == 0
        memory.wrong("10.0.0.1", "admin", 100.0)
    assert memory.refused_s("10.0.0.1", "other", 100.0) == 1.0
    assert memory.refused_s("10.0.0.2", "admin", 100.0) == 0
    assert memory.refused_s("10.0.0.1", "admin", 101.0) == 0


def test_a_user_is_guarded_against_many_addresses() -> None:
    memory = Guesses()
    for number in range(USER_FREE + 10):
        memory.wrong(f"10.0.0.{number}", "admin", 100.0)
    assert 0 < memory.refused_s("10.9.9.9", "admin", 100.0) <= USER_MAX_S
    assert memory.refused_s("10.9.9.9", "eva", 100.0) == 0


def test_tokens_and_passwords_are_counted_apart() -> None:
    memory = Guesses()
    for _ in range(ADDRESS_FREE + 3):
        memory.wrong("10.0.0.1", "", 100.0)
    assert memory.refused_s("10.0.0.1", "", 100.0) > 0
    assert memory.refused_s("10.0.0.1", "admin", 100.0) == 0


def test_a_right_guess_forgives() -> None:
    memory = Guesses()
    for _ in range(ADDRESS_FREE + 3):
        memory.wrong("10.0.0.1", "admin", 100.0)
    memory.right("10.0.0.1", "admin")
    assert memory.refused_s("10.0.0.1", "admin", 100.0) == 0
    assert len(memory) == 0


def test_what_is_long_ago_is_forgotten() -> None:
    memory = Guesses()
    for _ in range(ADDRESS_FREE):
        memory.wrong("10.0.0.1", "admin", 100.0)
    later = 100.0 + FORGET_AFTER_S + 1
    assert memory.wrong("10.0.0.1", "admin", later) == 0


def test_the_memory_is_bounded_and_keeps_who_is_refused() -> None:
    memory = Guesses(max_entries=50)
    for _ in range(ADDRESS_FREE + 6):
        memory.wrong("10.0.0.1", "", 100.0)
    for number in range(1000):
        memory.wrong(f"10.1.{number // 250}.{number % 250}", f"user{number}", 100.0)
        assert len(memory) <= 50
    assert memory.refused_s("10.0.0.1", "", 100.0) > 0


def test_random_guesses_never_break_the_bound() -> None:
    chance = random.Random(7)
    memory, now_s = Guesses(max_entries=20), 0.0
    for _ in range(5000):
        now_s += chance.random()
        address, user = f"10.0.0.{chance.randrange(30)}", chance.choice(["", "a", "b"])
        if memory.refused_s(address, user, now_s) > 0:
            assert memory.refused_s(address, user, now_s) <= ADDRESS_MAX_S
        elif chance.random() < 0.1:
            memory.right(address, user)
        else:
            memory.wrong(address, user, now_s)
        assert len(memory) <= 20


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fd00:1:2:3:4:5:6:7", "fd00:1:2:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_what_counts_as_one_place(address: str, key: str) -> None:
    assert address_key(address) == key
