"""Clients that vanish, and a server that says goodbye to all streams: what remains, and how long it takes.

Clients open 5,000 streams and leave them at random moments while changes go on. Then as many stay open and the server
is stopped. Afterwards no stream may be counted, no descriptor held, and memory must not have grown.
"""

from __future__ import annotations

import random
import re
import threading
import time
import urllib.request
from pathlib import Path

from bench.fanout_subjects import Subject, subject_of
from bench.stream_crowd import Crowd, allow_many_sockets
from tests.support.clients.vanishing import vanish

STREAMS = 5000
USERS = 10
SETTLE_SECONDS = 30.0


def run(streams: int = STREAMS) -> dict[str, str]:
    """{what: figures}.  Raises RuntimeError when something is left behind."""
    allow_many_sockets()
    chance = random.Random(1)
    with subject_of("darkroom", USERS) as subject:
        _churn(subject, streams // 5, chance)  # objects that are made once exist before memory is measured
        before, descriptors = _rss_mib(subject.pid), _descriptors(subject.pid)
        seconds = _churn(subject, streams, chance)
        after, left = _rss_mib(subject.pid), _descriptors(subject.pid)
        if left > descriptors:
            raise RuntimeError(f"{left - descriptors} descriptors were left behind.")
        found = {
            f"{streams} streams that vanish": f"{seconds:.1f} s, none left behind, {left - descriptors:+d} descriptors",
            "memory": f"{before:.1f} MiB before, {after:.1f} MiB after",
        }
    with subject_of("darkroom", USERS) as subject:
        headers = [subject.headers[n % USERS] for n in range(streams)]
        with Crowd(subject.url, headers) as crowd:
            begun = time.monotonic()
            subject.stop()
            goodbyes, ended = crowd.wait_for_goodbyes()
        found[f"{streams} streams at a stop"] = (
            f"{goodbyes} heard bye, the last after {ended - begun:.2f} s; the process ended after "
            f"{subject.wait() - begun:.2f} s"
        )
    return found


def _churn(subject: Subject, streams: int, chance: random.Random) -> float:
    """Seconds until so many have come and gone."""
    port = int(subject.url.rpartition(":")[2])
    begun, over = time.monotonic(), threading.Event()

    def change() -> None:
        while not over.wait(0.05):
            subject.publish()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for n in range(USERS):
            vanish(port, subject.headers[n], streams // USERS, chance)
    finally:
        over.set()
        changing.join()
    deadline = time.monotonic() + SETTLE_SECONDS
    while (open_ := _open_streams(subject.url)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if open_:
        raise RuntimeError(f"{open_} streams were left behind.")
    return time.monotonic() - begun


def _open_streams(url: str) -> int:
    with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
        found = re.search(r"^darkroom_feed_clients (\S+)$", response.read().decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def _rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return float(text.partition("VmRSS:")[2].split()[0]) / 1024


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
