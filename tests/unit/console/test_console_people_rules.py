"""Roles, lock-out, passwords: the rules, without anything around them."""

from openmse.console.people.lockout import KEPT_MAX, Lockout
from openmse.console.people.roles import Role
from openmse.console.people.secrets import digest, hash_password, is_password, password_fault


def test_each_role_may_what_the_one_before_may() -> None:
    """Viewer, operator, administrator."""
    assert Role.ADMINISTRATOR.may(Role.OPERATOR)
    assert Role.OPERATOR.may(Role.OPERATOR)
    assert not Role.VIEWER.may(Role.OPERATOR)
    assert not Role.OPERATOR.may(Role.ADMINISTRATOR)


def test_after_too_many_guesses_one_waits() -> None:
    """And a right one, or the time, begins the count anew."""
    lockout = Lockout(3, 60.0)
    for _ in range(2):
        lockout.wrong("user:anna", 10.0)
    assert lockout.wait_s("user:anna", 10.0) == 0.0
    lockout.wrong("user:anna", 11.0)
    assert lockout.wait_s("user:anna", 21.0) == 50.0
    assert lockout.wait_s("user:ben", 21.0) == 0.0
    assert lockout.wait_s("user:anna", 71.0) == 0.0
    lockout.wrong("user:anna", 72.0)
    assert lockout.wait_s("user:anna", 72.0) == 0.0
    lockout.right("user:anna")


def test_guesses_from_everywhere_do_not_fill_the_memory() -> None:
    """What was longest unseen is forgotten."""
    lockout = Lockout(1, 60.0)
    for number in range(KEPT_MAX + 10):
        lockout.wrong(f"from:{number}", float(number) / 1e6)
    assert lockout.wait_s("from:0", 0.1) == 0.0
    assert lockout.wait_s(f"from:{KEPT_MAX + 9}", 0.1) > 0.0


def test_passwords_are_kept_as_argon2_and_nobody_has_none() -> None:
    """Also for a name that does not exist the answer takes a hash's time."""
    kept = hash_password("a quiet winter evening")
    assert kept.startswith("$argon2id$")
    assert is_password(kept, "a quiet winter evening")
    assert not is_password(kept, "a quiet winter morning")
    assert not is_password("", "")
    assert len(digest("x")) == 64


def test_weak_passwords_are_refused_with_the_reason() -> None:
    """Short, monotonous, or the name itself."""
    assert "10" in password_fault("short")
    assert "different" in password_fault("aaaaaaaaaaaaaa")
    assert "name" in password_fault("annaannaannaanna", "anna")
    assert password_fault("a quiet winter evening", "anna") == ""
