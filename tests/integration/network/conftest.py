"""Fixtures of the network tests: a LAN in namespaces, with the test's thread on machine a."""

import os
import shutil
from collections.abc import Iterator

import pytest
from lan import Lan


@pytest.fixture
def lan() -> Iterator[Lan]:
    """Three machines on a switch; the test itself runs on machine a."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces and nftables")
    for tool in ("ip", "nft"):
        if shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"needs the command {tool}")
    network = Lan()
    try:
        network.up()
        with network.inside("a"):
            yield network
    finally:
        network.down()
