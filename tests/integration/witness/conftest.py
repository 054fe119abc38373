"""Fixtures: a real etcd."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from etcd_nodes import Node
from etcd_server import Etcd, installed_etcd


@pytest.fixture(scope="session")
def etcd_program() -> str:
    return installed_etcd()


@pytest.fixture
def make_etcd(
    etcd_program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Etcd]]:
    """Start servers of the test's own; all are ended with the test."""
    started: list[Etcd] = []

    def make(*tls: str) -> Etcd:
        started.append(Etcd(etcd_program, tmp_path_factory.mktemp("etcd"), tls))
        return started[-1].start()

    yield make
    for each in started:
        each.kill()


@pytest.fixture(scope="session")
def etcd(etcd_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One server for all tests that only need a group name of their own."""
    server = Etcd(etcd_program, tmp_path_factory.mktemp("etcd-shared")).start()
    yield server
    server.kill()


@pytest.fixture
def group() -> str:
    return f"g-{secrets.token_hex(4)}"


@pytest.fixture
def pair(etcd: Etcd, group: str) -> tuple[Node, Node]:
    return Node("mse1", etcd.url, group), Node("mse2", etcd.url, group)
