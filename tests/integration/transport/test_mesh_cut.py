"""A cut network, in namespaces of its own: silence is not taken for a dead process."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.alone,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip to make namespaces"
    ),
]

PARTY = """
import asyncio, json, sys
from pathlib import Path
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.pki.names import Role

def say(*event):
    print(json.dumps(event), flush=True)

async def main(own, other, party, directory):
    mesh = TlsMesh(
        (own, 8461),
        on_message=lambda *message: None,
        on_link=lambda group, party, is_up, was_reset: say(is_up, was_reset),
    )
    await mesh.open()
    base = Path(directory)
    files = TlsFiles(base / "node.crt", base / "node.key", base / "ca.crt")
    parties = {party: (Role.NODE, (other, 8461))}
    mesh.set_group(MeshGroup(group="floor1", files=files, parties=parties))
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture
def spaces() -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a cable; the host's own network is not touched."""
    tag = secrets.token_hex(3)
    one, two = f"omse-a-{tag}", f"omse-b-{tag}"
    made = []
    try:
        for name in (one, two):
            ip("netns", "add", name)
            made.append(name)
        ip("-n", one, "link", "add", "c0", "type", "veth", "peer", "name", "c0", "netns", two)
        for name, address in ((one, "10.99.0.1/24"), (two, "10.99.0.2/24")):
            ip("-n", name, "addr", "add", address, "dev", "c0")
            ip("-n", name, "link", "set", "c0", "up")
        yield one, two
    finally:
        for name in made:
            ip("netns", "del", name)


class Remote:
    """A party in a namespace, and what it says of its link."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next_event(self, within_s: float) -> tuple[bool, bool]:
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            is_up, was_reset = json.loads(await self.process.stdout.readline())
        return is_up, was_reset


@pytest.fixture
async def remotes(site: Any, spaces: tuple[str, str]) -> AsyncIterator[list[Remote]]:
    started: list[Remote] = []
    addresses = ("10.99.0.1", "10.99.0.2")
    try:
        for number, space in enumerate(spaces):
            base: Path = site.files(f"mse{number + 1}").key.parent
            process = await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", space, sys.executable, "-c", PARTY),
                *(addresses[number], addresses[1 - number], f"mse{2 - number}", str(base)),
                stdout=asyncio.subprocess.PIPE,
            )
            started.append(Remote(process))
        for remote in started:
            assert await remote.next_event(20) == (True, False)
        yield started
    finally:
        for remote in started:
            if remote.process.returncode is None:
                remote.process.kill()
            await remote.process.wait()


async def test_a_cut_is_silence_and_heals_by_itself(
    spaces: tuple[str, str], remotes: list[Remote]
) -> None:
    ip("-n", spaces[1], "addr", "del", "10.99.0.2/24", "dev", "c0")  # no carrier lost, no RST
    assert await remotes[0].next_event(8) == (False, False)
    ip("-n", spaces[1], "addr", "add", "10.99.0.2/24", "dev", "c0")
    assert await remotes[0].next_event(4) == (True, False)


async def test_a_killed_process_is_told_from_a_cut(
    spaces: tuple[str, str], remotes: list[Remote]
) -> None:
    remotes[1].process.kill()
    assert await remotes[0].next_event(1) == (False, True)
