"""What others put beside the group's keys, or answer in etcd's place, never ends the daemon."""

import asyncio
import base64
import json
import urllib.request

import pytest
from etcd_nodes import Node, running, sync_config, teach
from etcd_server import Etcd

from openmse.ha.messages import BeatAck, Prepare
from openmse.ha.values import Ballot


def _put(url: str, key: bytes, value: bytes) -> None:
    """As another client of the same etcd."""
    body = {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
    request = urllib.request.Request(f"{url}/v3/kv/put", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


async def test_a_key_that_is_no_text_is_nobodys(etcd: Etcd, group: str) -> None:
    """It ended the health monitor, on both nodes, as often as the guard restarted them."""
    node = Node("mse1", etcd.url, group)
    async with running(node):
        await teach(node, sync_config())
        folder = node.driver._keys.folder.encode()
        await asyncio.to_thread(_put, etcd.url, folder + b"\xff\xfe", b"x")
        assert await node.ask(Prepare(node.stamp, Ballot(0, 7, "mse1")))
        ack = await node.renew(sync_config())
        assert isinstance(ack, BeatAck)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"header":{"cluster_id":"1","revision":"many"}}',
        b'{"header":{"revision":"1"},"kvs":[{"key":"%%","mod_revision":"1","value":""}]}',
        b'{"header":{"revision":"1"},"kvs":[{"key":"eA==","mod_revision":"soon","value":""}]}',
        b"[]",
    ],
)
async def test_nonsense_in_place_of_an_answer_is_trouble_and_no_more(
    answer: bytes, group: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    node = Node("mse1", f"http://127.0.0.1:{port}", group)
    async with server, running(node):
        node.driver.send(Prepare(node.stamp, Ballot(0, 7, "mse1")))
        async with asyncio.timeout(10):
            while not node.driver.status.trouble:
                await asyncio.sleep(0.01)
        assert node.answers.empty()
