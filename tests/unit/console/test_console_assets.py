"""Static files out of memory: the same bytes, compressed for who takes that, nothing else."""

from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount, Router

from openmse.console.assets import Assets
from openmse.console.headers import SecurityHeaders


@pytest.fixture
def client(tmp_path: Path) -> httpx.AsyncClient:
    """A client of a folder with two files, behind the console's headers."""
    folder = tmp_path / "static"
    (folder / "vendor").mkdir(parents=True)
    (folder / "console.css").write_text("a { color: red }\n" * 200)
    (folder / "vendor" / "tiny.js").write_text("1;")
    (tmp_path / "secret").write_text("not for anybody")

    app = SecurityHeaders(Router([Mount("/static", Assets(folder))]))
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="https://console")


async def test_the_same_bytes_smaller_on_the_way(client: httpx.AsyncClient) -> None:
    plain = await client.get("/static/console.css", headers={"Accept-Encoding": "identity"})
    packed = await client.get("/static/console.css?v=1", headers={"Accept-Encoding": "br, gzip"})
    assert plain.content == packed.content == b"a { color: red }\n" * 200
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 200 < int(plain.headers["content-length"])
    for answer in (plain, packed):
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
    tiny = await client.get("/static/vendor/tiny.js", headers={"Accept-Encoding": "gzip"})
    assert (tiny.text, "content-encoding" in tiny.headers) == ("1;", False)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/static/nothing.css", 404),
        ("GET", "/static/", 404),
        ("GET", "/static/vendor", 404),
        ("GET", "/static/%2e%2e/secret", 404),
        ("POST", "/static/console.css", 405),
    ],
)
async def test_nothing_else_is_served_or_kept_by_caches(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    assert "anybody" not in answer.text
