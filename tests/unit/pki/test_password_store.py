"""Guesses at the pairing password: few, and not forgiven by a restart."""

from pathlib import Path

import pytest

from openmse.errors import PairingError, StateError, UsageError
from openmse.pki.password import (
    FREE_GUESSES,
    LOCK_FIRST_S,
    LOCK_MAX_S,
    PairingStore,
    derive,
    lockout_s,
)


@pytest.fixture
def store(tmp_path: Path) -> PairingStore:
    store = PairingStore(tmp_path / "pairing.json")
    store.set_password("correct horse")
    return store


def test_only_what_scrypt_makes_of_it_is_kept(store: PairingStore) -> None:
    assert b"correct horse" not in store.path.read_bytes()
    assert store.path.stat().st_mode & 0o777 == 0o600
    armed = store.armed(0.0)
    assert armed is not None
    assert armed.secret == derive("correct horse", armed.salt)
    assert armed.secret != derive("Correct horse", armed.salt)
    assert armed.secret.hex() not in repr(armed)


def test_the_lockout_grows_to_a_limit() -> None:
    assert lockout_s(FREE_GUESSES - 1) == 0
    assert [lockout_s(FREE_GUESSES + n) for n in (0, 1, 2)] == [60, 120, 240]
    assert lockout_s(10**6) == LOCK_MAX_S


def test_wrong_guesses_lock_and_a_restart_forgives_none(store: PairingStore) -> None:
    for _ in range(FREE_GUESSES):
        store.spend_guess(1000.0)
    restarted = PairingStore(store.path)
    for now_s in (1000.0, 1000.0 + LOCK_FIRST_S - 1):
        with pytest.raises(PairingError, match="Too many wrong passwords"):
            restarted.spend_guess(now_s)
    restarted.spend_guess(1000.0 + LOCK_FIRST_S)
    with pytest.raises(PairingError, match="Too many"):
        restarted.check(1000.0 + LOCK_FIRST_S + 2 * LOCK_FIRST_S - 1)


def test_a_clock_set_back_does_not_lock_for_years(store: PairingStore) -> None:
    for _ in range(FREE_GUESSES):
        store.spend_guess(2_000_000_000.0)
    with pytest.raises(PairingError):
        store.check(1000.0)
    armed = store.armed(1000.0)
    assert armed is not None
    store.forgive(1000.0)
    store.check(1000.0)


def test_a_right_guess_or_a_new_password_forgives(store: PairingStore) -> None:
    for _ in range(FREE_GUESSES - 1):
        store.spend_guess(0.0)
    store.forgive(0.0)
    for _ in range(FREE_GUESSES):
        store.spend_guess(0.0)
    store.set_password("another one")
    assert store.check(0.0).failures == 0


def test_an_expired_or_cleared_password_waits_for_nobody(store: PairingStore) -> None:
    store.set_password("correct horse", now_s=100.0, valid_for_s=60.0)
    store.check(159.0)
    with pytest.raises(PairingError, match="does not wait"):
        store.check(160.0)
    store.clear()
    store.clear()
    with pytest.raises(PairingError, match="does not wait"):
        store.check(0.0)


@pytest.mark.parametrize("password", ["", "short", "x" * 300])
def test_passwords_of_a_wrong_length_change_nothing(store: PairingStore, password: str) -> None:
    before = store.path.read_bytes()
    with pytest.raises(UsageError, match="8 to 256 characters"):
        store.set_password(password)
    assert store.path.read_bytes() == before


def test_a_damaged_file_is_said(store: PairingStore) -> None:
    store.path.write_bytes(store.path.read_bytes()[:50])
    with pytest.raises(StateError, match="damaged"):
        store.check(0.0)
