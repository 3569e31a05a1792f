"""A real Prometheus that scrapes a running system, with our rules at a speed that suits a test."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metrics.monitoring.prometheus import rules
from supervisor.cli.up import free_port
from supervisor.processes.parent_death import dying_with_us
from tests.support.waiting import PATIENCE_SECONDS, eventually

SCRAPE_MS = 1000  # more than a scrape takes that waits for a broker in vain
EVALUATE_MS = 500

CONFIG = """
global:
  scrape_interval: {every}ms
  scrape_timeout: {every}ms
  evaluation_interval: {evaluate}ms
rule_files: [rules.yml]
scrape_configs:
  - job_name: darkroom
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """A started server and what a test wants to know of it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.address}/-/ready", timeout=5).status == 200)
        return False

    def values(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of an instant vector; a scalar has no labels."""
        query = urllib.parse.urlencode({"query": expr})
        with urllib.request.urlopen(f"{self.address}/api/v1/query?{query}", timeout=10) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def tells_something(self, expr: str) -> bool:
        """The expression has a value that is a number."""
        return any(math.isfinite(value) for _, value in self.values(expr))

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {labels["alertname"] for labels, _ in self.values('ALERTS{alertstate="firing"}')}


@contextlib.contextmanager
def prometheus_server(folder: Path, target: str, *, pace: float) -> Iterator[Prometheus]:
    """Scraping `target` (host:port) until the block ends.  pace: how many times faster than in life rules go."""
    (folder / "rules.yml").write_text(rules(pace), encoding="utf-8")
    (folder / "prometheus.yml").write_text(
        CONFIG.format(every=SCRAPE_MS, evaluate=EVALUATE_MS, target=target), encoding="utf-8"
    )
    port = free_port("127.0.0.1")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            dying_with_us(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ]
            ),
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        eventually("Prometheus is ready", server.is_ready)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def until_firing(server: Prometheus, alert: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until an alert fires; fails with what fires instead."""
    deadline = time.monotonic() + seconds
    while alert not in (now := server.firing()):
        assert time.monotonic() < deadline, f"{alert} does not fire in {seconds:g} s; {sorted(now)} do"
        time.sleep(0.1)


def until_silent(server: Prometheus, seconds: float = 120.0) -> None:
    """Wait until no alert fires; the one for sweeps, which come once a minute, may take that long."""
    deadline = time.monotonic() + seconds
    while now := server.firing():
        assert time.monotonic() < deadline, f"still firing after {seconds:g} s: {sorted(now)}"
        time.sleep(0.1)
