"""The console for programs: the same roles, the same dependencies, described by OpenAPI."""

from fastapi import APIRouter


def api_routers() -> list[APIRouter]:
    """The routers of everything for programs."""
    from openmse.console.api import (
        fleet_metrics,
        licences,
        past,
        people,
        routes,
        server_facts,
        steps,
    )

    modules = (routes, server_facts, steps, past, licences, people, fleet_metrics)
    return [module.router for module in modules]
