"""Pages for people: each is a URL of its own; changes are ordinary requests."""

from fastapi import APIRouter


def all_routers() -> list[APIRouter]:
    """The routers of all pages behind the log-in."""
    from openmse.console.pages import (
        add_engine,
        audit,
        engines,
        licences,
        me,
        moves,
        pairing,
        pairs,
        past,
        people,
        server,
        stop,
        witness,
    )

    modules = (
        add_engine,
        engines,
        licences,
        server,
        stop,
        pairs,
        pairing,
        witness,
        moves,
        past,
        people,
        me,
        audit,
    )
    return [module.router for module in modules]
