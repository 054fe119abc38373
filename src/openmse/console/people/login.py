"""Log-in, set-up link, and their rules; pages and tests use the same functions. Blocking."""

import re
import time
from collections.abc import Mapping
from math import ceil

from fastapi import Request

from openmse.console.context import Console, address_of
from openmse.console.errors import FormError, LockedOut, LoginRefused, NotFound
from openmse.console.people.lockout import here_key, name_key, place_key
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import (
    digest,
    hash_password,
    is_password,
    needs_new_hash,
    new_secret,
    password_fault,
)
from openmse.console.store.store import SETUP_LINK, now

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


def log_in(console: Console, name: str, password: str, address: str) -> str:
    """The secret of a new session; raises LoginRefused or LockedOut."""
    lockout = console.lockout
    user_key, here, place = _keys(name, address)
    keys = (here, place) if lockout.is_known(user_key, place) else (user_key, place)
    _refuse_who_waits(console, keys, name, address)
    user = console.people.find(name)
    is_right = is_password(user.password_hash if user else "", password)
    _refuse_who_waits(console, keys, name, address)  # others may have guessed meanwhile
    if user is None or not is_right or user.is_disabled:
        for key in (user_key, here, place):
            lockout.wrong(key, time.monotonic())
        console.audit.add(who=name, address=address, action="log in", outcome="refused")
        raise LoginRefused(
            "The user name or the password is wrong.", "Names and passwords are case-sensitive."
        )
    for key in {*keys, here}:
        lockout.right(key)
    lockout.know(user_key, place)
    if needs_new_hash(user.password_hash):
        console.people.change(name, password_hash=hash_password(password))
    secret = new_secret()
    console.people.begin_session(user, secret, new_secret(), address)
    console.people.forget_sessions(now(-60 * console.settings.people.idle_minutes))
    console.audit.add(who=name, role=user.role.value, address=address, action="log in")
    return secret


def _keys(name: str, address: str) -> tuple[str, str, str]:
    """What a guess counts for: the name, the name at that place, and the place. The second is for
    places that know the name, where a colleague's own log-in begins the third anew."""
    user_key, place = name_key(name), place_key(address)
    return user_key, here_key(user_key, place), place


def _refuse_who_waits(console: Console, keys: tuple[str, ...], name: str, address: str) -> None:
    """Raise LockedOut where one of the keys has to wait; noted once for each wait, since whoever
    is outside could fill the audit otherwise, which keeps everything."""
    waits = {key: console.lockout.wait_s(key, time.monotonic()) for key in keys}
    longest = max(waits, key=lambda key: waits[key])
    if waits[longest] <= 0:
        return
    if console.lockout.is_news(longest):
        console.audit.add(
            who=name, address=address, action="log in", outcome="refused", detail="locked out"
        )
    raise LockedOut(
        f"There were too many wrong guesses; try again in {ceil(waits[longest] / 60)} min.",
        "Another administrator can set a new password meanwhile.",
    )


def new_setup_link(console: Console) -> str:
    """A link that makes an administrator, once; an older one ends. Only its hash is kept."""
    secret = new_secret()
    console.store.put(SETUP_LINK, digest(secret))
    return f"{console.settings.shown_url}/setup/{secret}"


def require_setup_link(console: Console, secret: str) -> None:
    """Raise NotFound unless this is the link that is open."""
    if not secret or console.store.get(SETUP_LINK) != digest(secret):
        raise NotFound(
            "This set-up link has been used, or a newer one was printed.",
            "Log in; or run 'mse console recover' on the console's machine for a new link.",
        )


def use_setup_link(console: Console, secret: str, form: dict[str, str], address: str) -> None:
    """Make the administrator of a set-up link; raises FormError or NotFound."""
    require_setup_link(console, secret)
    name = form.get("name", "")
    check_new_user(name, form.get("password", ""), form.get("password_again", ""))
    if not console.store.take(SETUP_LINK, digest(secret)):
        require_setup_link(console, "")
    hashed = hash_password(form["password"])
    if console.people.find(name):
        console.people.change(
            name, password_hash=hashed, role=Role.ADMINISTRATOR.value, is_disabled=False
        )
    else:
        console.people.add(name, hashed, Role.ADMINISTRATOR)
    user_key, here, place = _keys(name, address)
    for key in (user_key, here, place):  # whoever has the link need not wait
        console.lockout.right(key)
    console.lockout.know(user_key, place)
    console.audit.add(
        who=name, role=Role.ADMINISTRATOR.value, address=address, action="set up administrator"
    )


def check_new_user(name: str, password: str, again: str | None = None) -> None:
    """Raise FormError where a name or a new password cannot be used."""
    faults = {}
    if not _NAME.fullmatch(name):
        faults["name"] = (
            "1 to 63 letters, digits, '.', '_', '@' or '-', beginning with a letter or digit."
        )
    fault = password_fault(password, name)
    if fault:
        faults["password"] = fault
    elif again is not None and again != password:
        faults["password_again"] = "The two passwords differ."
    if faults:
        raise FormError(faults)


def change_own_password(
    console: Console, request: Request, principal: Principal, form: Mapping[str, str]
) -> None:
    """Give whoever asks a new password, noted; all sessions end. The form has ``old_password``,
    ``password``, and ``password_again`` where it was typed twice.

    Raises: FormError where one cannot be used, LockedOut after too many wrong guesses; then
    nothing has changed.
    """
    name, password = principal.user_name, form.get("password", "")
    faults = {}
    fault = password_fault(password, name)
    if fault:
        faults["password"] = fault
    if form.get("password_again", password) != password:
        faults["password_again"] = "The two passwords differ."
    if faults:
        raise FormError(faults)
    try:
        log_in(console, name, form.get("old_password", ""), address_of(request))
    except LoginRefused as error:
        raise FormError({"old_password": "This is not your present password."}) from error
    console.people.change(name, password_hash=hash_password(password))
    console.note(request, principal, "change password", target=name)
