"""Small programs for machines: say something over the network and count what arrives."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from openmse.lab.laboratory import Laboratory
from openmse.lab.programs import PYTHON

PORT = 9000

ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family, socket.SOCK_DGRAM)
listener.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    data, sender = listener.recvfrom(2048)
    print(data.decode(), flush=True)
    listener.sendto(data, sender)
"""

PROBE = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
probe = socket.socket(family, socket.SOCK_DGRAM)
count, wait_s = int(sys.argv[3]), float(sys.argv[4])
began = time.monotonic()
got, first = 0, 0.0

def drain(seconds):
    global got, first
    deadline = time.monotonic() + seconds
    while got < count and (left := deadline - time.monotonic()) > 0:
        probe.settimeout(left)
        try:
            probe.recv(2048)
        except TimeoutError:
            return
        got += 1
        first = first or time.monotonic() - began

for number in range(count):
    probe.setblocking(True)
    probe.sendto(str(number).encode(), (sys.argv[1], int(sys.argv[2])))
    drain(0.001)
drain(wait_s)
print(got, first)
"""


@contextmanager
def running(
    lab: Laboratory, machine: str, source: str, *arguments: str
) -> Iterator["subprocess.Popen[str]"]:
    """A Python program on a machine, once it has printed its first line; ended afterwards."""
    process = lab.popen(
        machine,
        [PYTHON, "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            yield process
        finally:
            process.kill()


def echoes(
    lab: Laboratory,
    source: str,
    address: str,
    *,
    count: int = 1,
    wait_s: float = 0.3,
    port: int = PORT,
) -> tuple[int, float]:
    """How many of ``count`` datagrams came back, and after how many seconds the first did."""
    arguments = [address, str(port), str(count), str(wait_s)]
    done = lab.exec(source, [PYTHON, "-c", PROBE, *arguments])
    assert done.returncode == 0, done.stderr
    number, first_s = done.stdout.split()
    return int(number), float(first_s)


def connects(lab: Laboratory, source: str, address: str, port: int, wait_s: float = 0.5) -> bool:
    """Whether a TCP connection can be made."""
    program = (
        "import socket, sys\n"
        f"try: socket.create_connection(({address!r}, {port}), {wait_s}).close()\n"
        "except OSError: sys.exit(1)"
    )
    return lab.exec(source, [PYTHON, "-c", program]).returncode == 0
