"""Roles, and the person or program behind a request. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Each may everything that the one before may."""

    VIEWER = "viewer"
    """Look at everything but people and the audit."""
    OPERATOR = "operator"
    """Also move the service: switchover, failback, maintenance, rehearsals."""
    ADMINISTRATOR = "administrator"
    """Everything: engines, pairing, forced takeover, settings, people."""

    @property
    def rank(self) -> int:
        """Higher may more."""
        return _ORDER.index(self)

    def may(self, needed: "Role") -> bool:
        """Whether this role reaches as far as ``needed``."""
        return self.rank >= needed.rank


_ORDER = [Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks; ``csrf`` is '' for tokens, which browsers never send by themselves."""

    user_id: int
    name: str
    role: Role
    kind: str
    """user or token"""
    language: str = ""
    theme: str = ""
    csrf: str = ""
    session: str = ""
    """The hash of the session's secret; '' for tokens."""
    owner: str = ""
    """The user that a token belongs to; '' for users."""
    ends_at: str = ""
    """When the token ends, ISO 8601 in UTC; '' for never, and for users."""

    def may(self, needed: Role) -> bool:
        """Whether this one may do what ``needed`` is asked for."""
        return self.role.may(needed)

    @property
    def user_name(self) -> str:
        """The user who is behind it, also behind a token."""
        return self.owner or self.name

    @property
    def who(self) -> str:
        """As the audit names it: behind a token, whose it is, since many may have its name."""
        return self.name if self.kind == "user" else f"{self.owner} (token {self.name})"
