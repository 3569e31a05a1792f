"""How soon the JS clients are connected again after web was away, and how many requests they send meanwhile.

200 watches by `web/static/darkroom.js` in one Node process. Web is killed, so no stream receives a goodbye. The port
refuses connections until web starts again at the same address. Printed: the seconds from the first 200 of `/readyz` to
each client's `live` (or `polling`), and the most requests in one second, while web was away and after.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Quantiles
from supervisor.security.tokens import make_user_token
from tests.support.running_system import LIFTED, REPOSITORY

CLIENTS = 200
AWAY_SECONDS = (2, 10, 40)
DEADLINE_SECONDS = 60.0


def run(clients: int = CLIENTS) -> dict[str, str]:
    """{how long web was away: figures}.  Raises RuntimeError without Node, or when a client does not reconnect."""
    node = shutil.which("node")
    if not node:
        raise RuntimeError("This bench needs Node.")
    found = {}
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as folder:
        web = _Web(Path(folder))
        web.start()
        token = make_user_token(web.secret, "o-1", ttl_seconds=3600)
        module = Path(folder) / "darkroom.mjs"
        shutil.copy(REPOSITORY / "web" / "static" / "darkroom.js", module)
        with _crowd(
            [node, REPOSITORY / "bench" / "reconnecting_clients.mjs", module, web.url, token, clients]
        ) as crowd:
            crowd.wait_until_live(clients)
            for seconds in AWAY_SECONDS:
                crowd.asked.clear()
                web.kill()
                time.sleep(seconds)
                crowd.live.clear()
                crowd.polling = 0
                ready = web.start()
                crowd.wait_until_live(clients)
                away, after = crowd.most_in_a_second(ready)
                back = [when - ready for when in crowd.live.values()]
                figures = Quantiles.of(back)
                found[f"{clients} clients, web away for {seconds} s"] = (
                    f"back after p50 {figures.p50:.1f} s, p90 {figures.p90:.1f}, last {figures.most:.1f}; "
                    f"{crowd.polling} by polling; at most {away} requests a second while it was away, {after} after"
                )
            web.kill()
    return found


class _Web:
    """`darkroom web` alone, over a database of its own, always at the same address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "web.log"
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")
        }
        self._environ |= LIFTED | {
            "DARKROOM_DATA_DIR": str(folder), "DARKROOM_PORT": str(port), "DARKROOM_CONFIG": "",
            "DARKROOM_LIMITS__REQUESTS_PER_MINUTE": "0",
        }  # fmt: skip
        self._darkroom = Path(sys.executable).with_name("darkroom")
        subprocess.run([self._darkroom, "migrate"], env=self._environ, check=True, capture_output=True)
        subprocess.run([self._darkroom, "token", "o-1"], env=self._environ, check=True, capture_output=True)
        self.secret = (folder / "secret").read_text().strip()

    def start(self) -> float:
        """Start, and wait for /readyz; when it was first 200."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._darkroom, "web"], env=self._environ, stdout=log, stderr=log
            )
        until = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                return time.monotonic()
            time.sleep(0.02)
        raise RuntimeError(f"web did not start: {self._log.read_text()[-500:]}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class _Crowd:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.live: dict[int, float] = {}
        self.asked: list[float] = []
        self.polling = 0
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            told = json.loads(line)
            if "asked" in told:
                self.asked.append(time.monotonic())
            elif told["state"] in ("live", "polling"):
                self.live.setdefault(told["n"], time.monotonic())
                self.polling += told["state"] == "polling"

    def most_in_a_second(self, since: float) -> tuple[int, int]:
        """Before that time, and since."""
        counts = Counter((when >= since, int(when - since)) for when in self.asked)
        before = [count for (is_after, _), count in counts.items() if not is_after]
        after = [count for (is_after, _), count in counts.items() if is_after]
        return max(before, default=0), max(after, default=0)

    def wait_until_live(self, clients: int) -> None:
        until = time.monotonic() + DEADLINE_SECONDS
        while len(self.live) < clients:
            if time.monotonic() > until:
                raise RuntimeError(f"Only {len(self.live)} of {clients} clients came back.")
            time.sleep(0.02)


@contextlib.contextmanager
def _crowd(command: list[object]) -> Iterator[_Crowd]:
    process = subprocess.Popen([str(each) for each in command], stdout=subprocess.PIPE, text=True)
    try:
        yield _Crowd(process)
    finally:
        process.kill()
        process.wait()
