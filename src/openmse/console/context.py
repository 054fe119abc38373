"""What every page and every API call works with; made once, in ``app.py``."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from fastapi import Request

from openmse.console.errors import ConsoleStoreError
from openmse.console.live.actions import Actions
from openmse.console.live.fleet import Fleet
from openmse.console.live.hub import Hub
from openmse.console.live.topics import Topics
from openmse.console.people.lockout import Lockout
from openmse.console.people.roles import Principal
from openmse.console.rendering import Templates
from openmse.console.settings import ConsoleSettings
from openmse.console.store.audit import Audit
from openmse.console.store.engines import Engines
from openmse.console.store.past import Past
from openmse.console.store.people import People
from openmse.console.store.store import Store


@dataclass(slots=True, kw_only=True)
class Console:
    """The parts of the running console."""

    settings: ConsoleSettings
    store: Store
    people: People
    engines: Engines
    past: Past
    audit: Audit
    fleet: Fleet
    hub: Hub
    actions: Actions
    topics: Topics
    templates: Templates
    lockout: Lockout
    adding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an engine is claimed and kept."""
    started_s: float = field(default_factory=time.monotonic)

    def note(
        self,
        request: Request,
        principal: Principal,
        action: str,
        *,
        target: str = "",
        outcome: str = "done",
        detail: str = "",
    ) -> None:
        """Add to the audit; what is done for somebody is noted, reading is not. What was refused
        changed nothing: where that cannot be noted, who asked is told the refusal all the same."""
        is_needless = outcome == "refused"
        with contextlib.suppress(*((ConsoleStoreError,) if is_needless else ())):
            self.audit.add(
                who=principal.who,
                role=principal.role.value,
                address=address_of(request),
                action=action,
                target=target,
                outcome=outcome,
                detail=detail,
            )


def console_of(request: Request) -> Console:
    """The console that serves a request."""
    console = request.app.state.console
    assert isinstance(console, Console)
    return console


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""
