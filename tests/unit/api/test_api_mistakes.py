"""What is answered when the code itself is wrong."""

import httpx

from openmse.api.app import build
from openmse.api.edge import HEADERS


async def test_also_a_mistake_of_ours_carries_the_headers() -> None:
    """It is answered outside of everything else."""
    app = build(None)

    async def broken() -> None:
        raise ZeroDivisionError

    app.add_api_route("/broken", broken)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "MSE-API-099")
    for name, value in HEADERS:
        assert answer.headers[name.decode()] == value.decode()
