"""A stand-in for the health monitor: real lock, real feeds, and orders read from a file.

Usage: stand_in.py RUN_DIR. Orders (JSON, read anew each 20 ms): ``mode``, ``lease_ms`` (the
deadline is that far ahead at each feed; null: none), ``is_feeding``, ``silence_limit_ms``,
``postmaster`` [pid, start], ``data_dir``, ``is_deaf`` (ignore SIGTERM), ``spawn`` (start that
command once and leave it running).
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from openmse.node.drivers.guard_feed import GuardFeed, HealthMonitorLock

run_dir = Path(sys.argv[1])
lock = HealthMonitorLock(str(run_dir))
with (run_dir / "starts").open("a") as file:
    restarts = os.environ["OPENMSE_GUARD_RESTARTS"]
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    file.write(f"{os.getpid()} {time.clock_gettime_ns(time.CLOCK_BOOTTIME)} {restarts} {nice}\n")
feed = GuardFeed(str(run_dir))
while True:
    orders = json.loads((run_dir / "orders.json").read_text())
    signal.signal(signal.SIGTERM, signal.SIG_IGN if orders.get("is_deaf") else signal.SIG_DFL)
    if orders.get("spawn") and not (run_dir / "spawned").exists():
        child = subprocess.Popen(orders["spawn"])
        (run_dir / "spawned").write_text(str(child.pid))
    if orders.get("is_feeding", True):
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        lease_ms = orders.get("lease_ms")
        postmaster = orders.get("postmaster")
        deadline = None if lease_ms is None else now + lease_ms * 1_000_000
        feed.send(
            mode=orders.get("mode", "SYNC"),
            deadline_ns=deadline,
            silence_limit_ns=orders.get("silence_limit_ms", 10_000) * 1_000_000,
            postmaster=None if postmaster is None else (postmaster[0], postmaster[1]),
            data_dir=orders.get("data_dir", ""),
        )
        if deadline is not None:
            (run_dir / "deadline.new").write_text(str(deadline))
            (run_dir / "deadline.new").rename(run_dir / "deadline")
    time.sleep(0.02)
