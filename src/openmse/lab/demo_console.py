"""The web console beside a demo, so that a person can watch the faults happen.

It runs where a deployment has it, on the witness machine, and serves on a socket of the host's
127.0.0.1 that is opened outside and passed in. It reaches the nodes as any console does: over their
management APIs and through the switch that the faults cut. Whatever goes wrong with it is said, and
the demo goes on without it.
"""

import contextlib
import errno
import importlib.util
import re
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openmse import ports
from openmse.errors import DriverError, MseError
from openmse.lab.laboratory import Laboratory
from openmse.lab.programs import MANAGEMENT, PYTHON
from openmse.lab.topology import Kind

MACHINE: Final = "witness"
HOST: Final = "127.0.0.1"
VIEWER: Final = "viewer"
NICENESS: Final = 10
"""What is measured comes first: two cores serve the pair, its load and whoever watches."""
_NEEDED: Final = ("sqlalchemy", "babel")
_CONFIG: Final = "/etc/openmse/demo-console.toml"
_STATE: Final = "/var/lib/openmse-console"
_CERTIFICATE: Final = "/var/lib/openmse/management/tls.crt"
_READY_S: Final = 40.0
_STOP_S: Final = 10.0
_LISTENS: Final = "0A"
Say = Callable[[str], None]


class NoConsole(DriverError):
    """The console of a demo could not be opened; the demo goes on without it."""

    code = "MSE-LAB-012"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a person gets in."""

    url: str
    user: str
    password: str

    @property
    def words(self) -> str:
        """One line for a screen."""
        return f"Watch it: {self.url}  user {self.user}, password {self.password}"


@contextlib.contextmanager
def beside(laboratory: Laboratory, port: int | None, say: Say) -> Iterator[None]:
    """Keep a console open for as long as the block lasts; ``port`` None: none is wanted.

    ``say`` is told how to get in, or why there is none; nothing of it is ever raised.
    """
    with contextlib.ExitStack() as stack:
        console = None if port is None else _opened(stack, laboratory, port, say)
        yield
        if console is not None and console.has_ended():
            say(f"The console has ended by itself: {console.last_words()}")


def _opened(
    stack: contextlib.ExitStack, laboratory: Laboratory, port: int, say: Say
) -> "MachineConsole | None":
    """A console that serves, closed with ``stack``; None, and why, where there can be none."""
    try:
        sock = stack.enter_context(listening_socket(port, say))
        console = stack.enter_context(MachineConsole(laboratory, sock))
        access = open_for_viewers(laboratory, console)
    except (MseError, OSError, subprocess.SubprocessError) as error:
        stack.close()
        say(f"There is no console: {error} The demo goes on without it.")
        return None
    say(access.words)
    return console


def listening_socket(port: int, say: Say) -> socket.socket:
    """A socket that listens on the host's 127.0.0.1, at another port where ``port`` is in use.

    Raises: OSError.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            sock.bind((HOST, 0))
            say(f"Port {port} of {HOST} is in use; the console takes another one.")
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


class MachineConsole:
    """The console as a process of the witness machine, serving on a socket of the host."""

    def __init__(self, laboratory: Laboratory, sock: socket.socket) -> None:
        self.laboratory = laboratory
        self.url = f"https://{HOST}:{sock.getsockname()[1]}"
        self._socket = sock
        self._process: subprocess.Popen[Any] | None = None
        self._log = laboratory.places.logs(MACHINE) / "console.log"

    def __enter__(self) -> "MachineConsole":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; ``await_served`` waits. Raises: NoConsole where a package is missing."""
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise NoConsole(
                f"The console needs {' and '.join(missing)}, which this environment lacks.",
                "Install it with its extra: pip install 'openmse[console]'.",
            )
        address = self.laboratory.machine(MACHINE).address
        self._write(
            f'[console]\nname = "demo"\naddress = "{HOST}"\nurl = "{self.url}"\n'
            f'[witness]\naddress = "{address}"\n[paths]\nstate_dir = "{_STATE}"\n'
        )
        number = self._socket.fileno()
        command = ["nice", "-n", str(NICENESS), PYTHON, "-m", "openmse.console"]
        command += ["--config", _CONFIG, "--fd", str(number)]
        with self._log.open("wb") as log:
            self._process = self.laboratory.popen(
                MACHINE,
                command,
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _write(self, text: str) -> None:
        done = self.laboratory.exec(MACHINE, ["sh", "-c", f"cat > {_CONFIG}"], input_text=text)
        if done.returncode:
            raise NoConsole(f"The console's settings cannot be written: {done.stderr.strip()}.")

    def await_served(self) -> str:
        """Wait until it serves; the one-time link of a first start, or ''. Raises: NoConsole."""
        wait(lambda: "serves at" in self.said() or self.has_ended(), "the console serves")
        if self.has_ended():
            raise NoConsole(f"The console ended at once: {self.last_words()}.")
        found = re.search(r"https://\S+(/setup/\S+)", self.said())
        return found[1] if found else ""

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def said(self) -> str:
        """Everything it has written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def last_words(self) -> str:
        """Its last line."""
        return next(reversed(self.said().strip().splitlines()), "it wrote nothing")

    def certificate(self) -> Path:
        """Its certificate, as a path of the host."""
        return self.laboratory.path_in(MACHINE, f"{_STATE}/tls.crt")

    def stop(self) -> None:
        """End it, as systemd would; also twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)


# ---------------------------------------------------------------------- the nodes' side


def nodes_of(laboratory: Laboratory) -> list[str]:
    """The machines that have a management API."""
    return [m.name for m in laboratory.machines.values() if m.kind is Kind.NODE]


def enable_api(laboratory: Laboratory, node: str, password: str) -> None:
    """Give a node an administrator and start its management API; ``await_api`` waits.

    Raises: NoConsole with the command's words.
    """
    words = ["mse", "admin", "password", "--password-file", "-"]
    done = laboratory.exec(node, words, input_text=f"{password}\n")
    if done.returncode == 0:
        done = laboratory.exec(node, ["touch", MANAGEMENT])
    if done.returncode:
        raise NoConsole(f"The API of {node} cannot be set up: {done.stderr.strip()}")


def await_api(laboratory: Laboratory, node: str) -> None:
    """Wait until the management API of a node listens. Raises: NoConsole."""
    wait(lambda: _is_listening(laboratory, node), f"the management API of {node} listens")


def _is_listening(laboratory: Laboratory, node: str) -> bool:
    """By the kernel's own table, without a connection or a program inside."""
    text = Path(f"/proc/{laboratory.init_of(node).pid}/net/tcp").read_text()
    rows = (line.split() for line in text.splitlines()[1:])
    wanted = f"{ports.MANAGEMENT:04X}"
    return any(row[1].endswith(f":{wanted}") and row[3] == _LISTENS for row in rows)


def fingerprint_of(laboratory: Laboratory, node: str) -> str:
    """What ``mse admin fingerprint`` prints there."""
    from openmse.api.identity import fingerprint

    return fingerprint(laboratory.path_in(node, _CERTIFICATE))


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds. Raises: NoConsole."""
    deadline = time.monotonic() + _READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise NoConsole(f"Waited {_READY_S:.0f} s in vain until {what}.")
        time.sleep(0.05)


# ---------------------------------------------------------------------- the console's first minute


def open_for_viewers(laboratory: Laboratory, console: MachineConsole) -> Access:
    """Start everything, add the pair, and make a user who may look, not touch.

    Raises: NoConsole, and what starting programs raises.
    """
    password = secrets.token_urlsafe(18)
    console.start()
    nodes = nodes_of(laboratory)
    for node in nodes:
        enable_api(laboratory, node, password)
    link = console.await_served()
    for node in nodes:
        await_api(laboratory, node)
    access = Access(url=console.url, user=VIEWER, password=secrets.token_hex(5))
    _furnish(laboratory, console, link, password, access)
    return access


def _furnish(
    laboratory: Laboratory, console: MachineConsole, link: str, node_password: str, access: Access
) -> None:
    import httpx

    context = ssl.create_default_context(cadata=console.certificate().read_text())
    with httpx.Client(base_url=console.url, verify=context, timeout=20, trust_env=False) as client:
        try:
            _log_in_first(client, link)
            for node in nodes_of(laboratory):
                body = {
                    "name": node,
                    "address": laboratory.machine(node).address,
                    "port": ports.MANAGEMENT,
                    "fingerprint": fingerprint_of(laboratory, node),
                    "user": "admin",
                    "password": node_password,
                }
                _post(client, "/api/v1/engines", body)
            body = {"name": access.user, "password": access.password, "role": "viewer"}
            _post(client, "/api/v1/users", body)
        except httpx.HTTPError as error:
            raise NoConsole(f"The console does not answer: {error}.") from error


def _log_in_first(client: Any, link: str) -> None:
    """Make the first administrator, whom nobody will know, and log in as that one."""
    name, password = "demo", secrets.token_urlsafe(18)
    form = {"name": name, "password": password, "password_again": password}
    client.post(link, data=form)
    client.post("/login", data={"name": name, "password": password})
    found = re.search(r'X-CSRF-Token": "([^"]+)"', client.get("/me").text)
    if found is None:
        raise NoConsole("The console did not let its first administrator in.")
    client.headers["X-CSRF-Token"] = found[1]


def _post(client: Any, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    if not answer.is_success:
        raise NoConsole(f"The console refused {path} ({answer.status_code}): {answer.text[:300]}")
