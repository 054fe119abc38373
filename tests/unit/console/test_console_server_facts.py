"""What is said of an engine that cannot tell what its server uses: an older one, a busy one."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from openmse.console.context import Console
from openmse.console.errors import NodeRefused
from openmse.console.server_facts import read


class _Older:
    """An engine's API as it answers a path that it does not know, or for another reason not."""

    def __init__(self, status: int) -> None:
        self._status = status

    async def get(self, path: str, _kind: type[Any]) -> Any:
        """Refused, as every path is."""
        assert path in ("/v1/server-info", "/v1/ha-info")
        raise NodeRefused("There is nothing at this path.", code="MSE-X", status=self._status)


def _console(status: int) -> Console:
    live = SimpleNamespace(engine=SimpleNamespace(name="mse1 north"))
    feed = SimpleNamespace(client=_Older(status), live=live)
    return cast(Console, SimpleNamespace(fleet=SimpleNamespace(feed=lambda _id: feed)))


async def test_an_older_engine_is_named_as_such() -> None:
    with pytest.raises(NodeRefused, match="mse1 north does not tell this") as found:
        await read(_console(404), 1)
    assert "getserverinfo" in found.value.hint


async def test_another_refusal_stays_what_it_is() -> None:
    with pytest.raises(NodeRefused, match="nothing at this path") as found:
        await read(_console(429), 1)
    assert found.value.code == "MSE-X"
