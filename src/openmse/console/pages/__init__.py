"""Pages for people: each is a URL of its own; changes are ordinary requests."""

from fastapi import APIRouter


def all_routers() -> list[APIRouter]:
    """The routers of all pages behind the log-in."""
    from openmse.console.pages import (
        add_engine,
        audit,
        engines,
        me,
        moves,
        pairing,
        pairs,
        past,
        people,
    )

    modules = (add_engine, engines, pairs, pairing, moves, past, people, me, audit)
    return [module.router for module in modules]
