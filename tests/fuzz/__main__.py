"""`python -m tests.fuzz --seconds 600 --database both --seed N`: exits with 1 if it found a fault."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from config.load_settings import load_settings
from supervisor.schema.migrate import migrate
from supervisor.security.tokens import make_feed_ticket, make_user_token
from tests.fuzz.requests import Known, Sent, next_request
from tests.support.databases import POSTGRESQL, SQLITE
from tests.support.houses.parts import ROOT, SECRET, Part
from tests.support.servers.postgres_databases import take_database
from web.app.app import ADDRESSES

CONNECTIONS = 4
PATIENCE_SECONDS = 60.0
CONTROL = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]"
)  # what could forge a line, or steer a terminal
MOST_ANSWER_BYTES = 1_000_000
SETTINGS = {
    "PORT": "0",
    "LIMITS__OPEN_TASKS_PER_USER": "0",
    "CREDITS__ENABLED": "false",
    "LOG_FORMAT": "console",
}


@dataclass
class Seen:
    """The answers. faults: requests that were answered with a 5xx, or not at all."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running_part(kind: str) -> Iterator[Part]:
    """A real `darkroom web` over a fresh database."""
    with tempfile.TemporaryDirectory(prefix="darkroom-fuzz-") as folder:
        settings = dict(SETTINGS)
        if kind == POSTGRESQL:
            settings["DATABASE_URL"] = take_database()
        else:
            settings["DATABASE_URL"] = f"sqlite:///{folder}/darkroom.db"
            environ = {f"DARKROOM_{name}": value for name, value in settings.items()}
            migrate(load_settings({**environ, "DARKROOM_DATA_DIR": folder, "DARKROOM_CONFIG": ""}))
        part = Part("web", Path(folder) / "web", settings)
        try:
            assert part.url
            yield part
        finally:
            part.kill()


@contextlib.contextmanager
def watched(part: Part) -> Iterator[dict[str, Any]]:
    """A dict that holds what the watcher saw, once the block has ended."""
    command = [sys.executable, "-m", "tests.fuzz.watching", part.url, str(part.process.pid)]
    found: dict[str, Any] = {}
    watcher = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        said, _ = watcher.communicate()
        found |= json.loads(said)


def known_of(url: str, secret: str = SECRET) -> Known:
    """Every route, and tokens of each role, good and bad."""
    good = [
        f"Bearer {make_user_token(secret, 'o-1', role, ttl_seconds=86400)}"
        for role in ("user", "operator", "service")
    ]
    bad = ["Bearer x", "Bearer " + make_user_token(secret, "o-1", ttl_seconds=-600), "Basic eDp4", ""]
    known = Known([(each.method, each.path) for each in ADDRESSES], good * 6 + bad, urlsplit(url).netloc)
    known.words.append(make_feed_ticket(secret, "o-1"))
    # Forms and pictures are the most that can go wrong.
    known.routes += [("POST", "/v1/images")] * 12 + [("POST", "/v1/tasks")] * 12
    return known


async def fuzz(url: str, seed: int, seconds: float, *, most: int = 10**9, secret: str = SECRET) -> Seen:
    """Random requests for so long, or so many.  secret: the server's."""
    seen, known, random = Seen(), known_of(url, secret), Random(seed)
    until = time.monotonic() + seconds
    left = most

    async def go_on() -> None:
        nonlocal left
        while time.monotonic() < until and left > 0:
            left -= 1
            await ask(url, next_request(random, known), known, seen)

    await asyncio.gather(*(go_on() for _ in range(CONNECTIONS)))
    return seen


async def ask(url: str, sent: Sent, known: Known, seen: Seen) -> None:
    """Send one, and judge what comes back."""
    parts = urlsplit(url)
    outcome, body = "no answer", b""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS if sent.is_whole else 1.0):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                outcome, body = await _exchanged(reader, writer, sent)
            finally:
                writer.close()
    except (ConnectionError, asyncio.IncompleteReadError):
        outcome = "hung up"
    except TimeoutError:
        if sent.is_whole:
            seen.faults.append(f"no answer in {PATIENCE_SECONDS:g} s: {sent.bytes[:1500]!r}")
    seen.statuses[outcome] += 1
    if outcome == "hung up" and sent.is_whole and not (sent.ends or sent.breaks_off):
        seen.faults.append(f"hung up without an answer: {sent.bytes[:1500]!r}")
    if outcome.startswith("5"):
        seen.faults.append(f"{outcome}: {sent.bytes[:1500]!r}\n    answered {body[:300]!r}")
    known.learn(body)


async def _exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Sent
) -> tuple[str, bytes]:
    """Status and body; of a stream, or a body without a length, only the bytes that come at once."""
    for piece in sent.pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    if sent.ends:
        writer.write_eof()
    if sent.breaks_off:
        return "broken off", b""
    while True:
        words = (await reader.readline()).split()
        if len(words) < 2:
            return "hung up", b""
        head: dict[str, str] = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            head[name.lower()] = value.strip()
        if words[1] != b"100":
            break
    length = int(head.get("content-length", "0"))
    body = b"" if sent.bytes.startswith(b"HEAD") else await reader.readexactly(min(length, MOST_ANSWER_BYTES))
    return words[1].decode(), body


def run(kind: str, seed: int, seconds: float) -> bool:
    """One run; whether there was no fault."""
    load = os.getloadavg()[0]
    with running_part(kind) as part:
        print(f"{kind}, seed {seed}: {part.url}", flush=True)
        with watched(part) as health:
            seen = asyncio.run(fuzz(part.url, seed, seconds))
        log = part.log.read_text(errors="replace")
        alive = part.process.poll() is None
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(seen.statuses.items()))
    print(
        f"{kind}, seed {seed}, load {load:.0f} → {os.getloadavg()[0]:.0f}: {seen.statuses.total():,} requests"
    )
    print(f"  {statuses}")
    print(
        f"  /healthz: asked {health['asked']:,} times, p99 {health['p99_ms']} ms, most {health['most_ms']} ms; "
        f"{len(health['stalls'])} over 0.5 s, of which {len(health['own'])} of web's own: {health['stalls']}"
    )
    for fault in seen.faults:
        print("FAULT", fault)
    if odd := CONTROL.search(log):
        print("FAULT: a control character in the log", repr(log[max(0, odd.start() - 500) : odd.end() + 100]))
    if "Traceback" in log:
        print("FAULT", log[log.index("Traceback") - 500 :][:6000])
    if health["wrong"] or not alive:
        print("FAULT", health["wrong"], "" if alive else "web has ended")
    return not (seen.faults or odd or "Traceback" in log or health["wrong"] or health["own"]) and alive


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each database")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL, "both"), default="both")
    given = parser.parse_args()
    kinds = (SQLITE, POSTGRESQL) if given.database == "both" else (given.database,)
    went_well = [run(kind, given.seed, given.seconds) for kind in kinds]
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
