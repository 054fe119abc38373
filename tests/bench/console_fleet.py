"""``make bench-console``: a thousand engines in the console: first paint, and processor time.

``console_fleet.py [--engines N] [--seconds S] [--only quiet|busy] RESULTS`` appends one JSON line
for each run and prints the table of this version's runs. Exit 1 if a target is missed. Engines are
simulated (``simulated_engines``); the console, TLS, the API's protocol and Chromium are real.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from simulated_engines import address_of, name_of
from stage import ConsoleProcess, console_process, launch, log_in

import openmse
from openmse.console.nodes.tls import fingerprint
from openmse.console.settings import load
from openmse.console.store import schema
from openmse.console.store.store import now, open_store
from openmse.lab import records
from openmse.lab.outage import percentile

PAINTS = 30
PAGES = 100
PAINT_MS_MAX = 1000.0
CORES_MAX = 0.5
MODES = ("quiet", "busy")


class FleetResult(Struct, frozen=True, kw_only=True):
    """One run. Cores are the console's processor time over wall time; paints are Chromium's first
    contentful paints of the list, each with an empty cache and a new connection."""

    version: str
    host: str
    made_at: str
    mode: str
    engines: int
    connected_after_s: float
    cores_alone: float
    """Nobody looks."""
    cores_watched: float
    """Two browsers follow the list and the overview of pairs."""
    memory_mib: float
    page_p50_ms: float
    """The list without its style and scripts, over a connection that is kept."""
    page_p99_ms: float
    paint_p50_ms: float
    paint_p99_ms: float
    control_p50_ms: float
    """The paint of a page without any engine: what this machine needs for any page at all."""
    control_p99_ms: float
    page_connecting_p99_ms: float
    """The same page as before, while the console still connects to its engines after a start."""
    rows_p50_ms: float = 0.0
    """Until the first rows have been on the screen: the end of the first frame that has them."""
    rows_p99_ms: float = 0.0
    page_bytes: int = 0
    """The HTML of the list."""
    page_elements: int = 0
    load_before: float = 0.0
    """The load average of the minute before the first paint, in which the engines and the console
    themselves count for less than one: with more than that the paints tell of the others, too."""


def code_version() -> str:
    """Twelve hexadecimal digits over the console's sources."""
    root = Path(openmse.__file__).parent / "console"
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".html", ".css", ".js") and "vendor" not in path.parts:
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def cpu_s(pid: int) -> float:
    """Seconds of user and system time of a process so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def engines(count: int, directory: Path, mode: str) -> Iterator[dict[str, Any]]:
    """The engines' process, as long as the context lasts; what it told of itself."""
    program = str(Path(__file__).with_name("simulated_engines.py"))
    command = [sys.executable, program, str(count), str(directory), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def group_key(number: int) -> str:
    """The same for both engines of a pair."""
    return "|".join(sorted(f"{name_of(n)}@{address_of(n)}" for n in (number, number ^ 1)))


def know(console: ConsoleProcess, told: dict[str, Any]) -> None:
    """Put the engines into the store of a console that does not run, as pairs."""
    der = ssl.PEM_cert_to_DER_cert(Path(told["certificate"]).read_text())
    rows = [
        {
            "name": name_of(number),
            "address": "127.0.0.1",
            "port": port,
            "certificate": der,
            "fingerprint": fingerprint(der),
            "token": "mse_bench",
            "node": name_of(number),
            "role": "secondary" if number % 2 else "primary",
            "group_key": group_key(number),
            "added_at": now(),
            "added_by": "bench",
        }
        for number, port in enumerate(told["ports"])
    ]
    store = open_store(load(console.config))
    with store.write() as connection:
        connection.execute(schema.engines.insert(), rows)
    store.close()


def heard(client: httpx.Client) -> int:
    """How many engines the console hears, a moment later: asking costs it time, too."""
    time.sleep(1.0)
    return len(re.findall(r"engine_up\{[^}]*\} 1\.0", client.get("/metrics").text))


def cores(console: ConsoleProcess, seconds: float) -> float:
    """Processor time of the console over wall time, from now on."""
    assert console.process is not None
    began_s, began_cpu_s = time.monotonic(), cpu_s(console.process.pid)
    time.sleep(seconds)
    return (cpu_s(console.process.pid) - began_cpu_s) / (time.monotonic() - began_s)


@contextmanager
def follower(client: httpx.Client, page: str) -> Iterator[None]:
    """Follow a page's stream as a browser does that shows it."""
    text = client.get(page).text
    topics = ",".join(part.partition('"')[0] for part in text.split('sse-swap="')[1:])
    assert topics, page
    is_over = threading.Event()
    bytes_read: list[int] = []

    def read() -> None:
        with client.stream("GET", "/live", params={"topics": topics}) as answer:
            for chunk in answer.iter_raw():
                bytes_read.append(len(chunk))
                if is_over.is_set():
                    return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield
    is_over.set()
    thread.join(10)
    assert sum(bytes_read) > 1000, f"{page} has told nothing"


def milliseconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


class Paints(Struct):
    """What Chromium told: milliseconds since each navigation began."""

    first: list[float] = []
    """First contentful paints of the list."""
    rows: list[float] = []
    """Until the first rows of the list have been on the screen."""
    control: list[float] = []
    """First contentful paints of a page without any engine."""
    elements: int = 0


def paints(console: ConsoleProcess) -> Paints:
    """Look at the list, and by turns at a page of the same console without any engine; each time
    with an empty cache and a new connection."""
    from playwright.sync_api import sync_playwright

    found = Paints()
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(ignore_https_errors=True, locale="en-GB")
        log_in(context.new_page(), console)
        options = {"ignore_https_errors": True, "locale": "en-GB"}
        options["storage_state"] = context.storage_state()
        context.close()
        for number in range(PAINTS):
            context = browser.new_context(**options)
            _look_at_list(context.new_page(), console, number % 20 + 1, found)
            context.close()
            context = browser.new_context(**options)
            found.control.append(_first_paint(context.new_page(), f"{console.url}/me"))
            context.close()
        browser.close()
    return found


def _look_at_list(page: Any, console: ConsoleProcess, number: int, found: Paints) -> None:
    page.add_init_script(_WHEN_ROWS)
    found.first.append(_first_paint(page, f"{console.url}/engines?sort=name&page={number}"))
    _wait_true(page, "window.rowsAt > 0")
    found.rows.append(max(found.first[-1], float(page.evaluate("window.rowsAt"))))
    assert page.locator("tbody tr").first.is_visible()
    found.elements = page.locator("*").count()


def _first_paint(page: Any, url: str) -> float:
    page.goto(url)
    _wait_true(page, f"{_PAINT}.length > 0")
    return float(page.evaluate(f"{_PAINT}[0].startTime"))


def _wait_true(page: Any, expression: str) -> None:
    """Asked from outside: the console's security policy forbids what ``wait_for_function`` does."""
    ends_at = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < ends_at, f"{expression} is not true within 30 s"
        page.wait_for_timeout(5)


_PAINT = "performance.getEntriesByName('first-contentful-paint')"
_WHEN_ROWS = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('tbody tr')) return;
  observer.disconnect();
  const after = () => { window.rowsAt = performance.now(); };
  requestAnimationFrame(() => requestAnimationFrame(after));
}).observe(document, {childList: true, subtree: true});
"""
"""The second frame begins when the first one, with the rows, is done; none begins without style."""


def measure(console: ConsoleProcess, count: int, seconds: float, mode: str) -> FleetResult:
    """One run against engines that serve already."""
    console.start()
    began_s = time.monotonic()
    with console.logged_in() as client:
        early: list[float] = []
        while heard(client) < count:
            assert time.monotonic() - began_s < 400, "not all engines are heard"
            early.append(milliseconds(lambda: client.get("/engines?sort=name")))
        connected_s = time.monotonic() - began_s
        time.sleep(5)
        alone = cores(console, seconds)
        with ExitStack() as stack:
            stack.enter_context(follower(client, "/engines"))
            stack.enter_context(follower(client, "/pairs"))
            watched = cores(console, seconds)
        urls = [f"/engines?sort=name&page={n % 20 + 1}" for n in range(PAGES)]
        pages = [milliseconds(lambda u=url: client.get(u)) for url in urls]  # type: ignore[misc]
        page_bytes = len(client.get(urls[0]).content)
    load = os.getloadavg()[0]
    painted = paints(console)
    with console.logged_in() as client:  # the engines gave way, and yet went on speaking
        assert heard(client) == count, "some engines were not heard while the browser painted"
    assert console.process is not None
    status = Path(f"/proc/{console.process.pid}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    console.stop()
    return FleetResult(
        version=code_version(),
        host=records.host(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        mode=mode,
        engines=count,
        connected_after_s=round(connected_s, 1),
        cores_alone=round(alone, 3),
        cores_watched=round(watched, 3),
        memory_mib=round(resident_kib / 1024, 1),
        page_p50_ms=round(percentile(pages, 50), 1),
        page_p99_ms=round(percentile(pages, 99), 1),
        paint_p50_ms=round(percentile(painted.first, 50), 1),
        paint_p99_ms=round(percentile(painted.first, 99), 1),
        control_p50_ms=round(percentile(painted.control, 50), 1),
        control_p99_ms=round(percentile(painted.control, 99), 1),
        page_connecting_p99_ms=round(percentile(early or [0.0], 99), 1),
        rows_p50_ms=round(percentile(painted.rows, 50), 1),
        rows_p99_ms=round(percentile(painted.rows, 99), 1),
        page_bytes=page_bytes,
        page_elements=painted.elements,
        load_before=round(load, 1),
    )


def run(count: int, seconds: float, mode: str) -> FleetResult:
    """Build the stage, measure, take it down."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        root = Path(name)
        with (
            engines(count, root / "engines", mode) as told,
            console_process(root / "console") as console,
        ):
            console.stop()
            know(console, told)
            return measure(console, count, seconds, mode)


def table(results: list[FleetResult]) -> str:
    """The runs as a table."""
    names = FleetResult.__struct_fields__[3:]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(str(getattr(r, n)) for n in names)} |" for r in results]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A thousand engines in the console.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", choices=MODES)
    asked = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    for mode in [asked.only] if asked.only else MODES:
        records.append(asked.results, run(asked.engines, asked.seconds, mode))
    version = code_version()
    found = [r for r in records.load(asked.results, FleetResult) if r.version == version]
    print(f"version {version}, {records.host()}\n{table(found)}")
    is_met = all(
        max(r.cores_alone, r.cores_watched) < CORES_MAX
        and max(r.paint_p99_ms, r.rows_p99_ms) < PAINT_MS_MAX
        for r in found
    )
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
