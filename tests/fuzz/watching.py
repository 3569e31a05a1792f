"""Asks /healthz every 50 ms until its stdin ends, then prints the result: `python -m tests.fuzz.watching URL PID`.

On an overloaded host every process waits for a core, this one too. Linux counts for each thread how long it was ready
to run and did not run (schedstat). Three such waits are subtracted from a stall; the rest is web's own. They are the
waits of web's event loop, of the asking process, and the longest of web's other threads, as any of these may hold the
interpreter's lock meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

EVERY_SECONDS = 0.05
STALL_SECONDS = 0.5


async def watch(url: str, pid: int) -> dict[str, object]:
    """What was seen.  `stalls`: answers that took over half a second, of which `own` are web's doing."""
    over = asyncio.Event()
    reading = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    reading.add_done_callback(lambda _: over.set())
    took: list[float] = []
    stalls: list[dict[str, float]] = []
    wrong: list[str] = []
    while not over.is_set():
        waited, began = _waits_of(pid), time.monotonic()
        try:
            answer = await asyncio.wait_for(_asked(url), 60)
        except (OSError, TimeoutError) as error:
            answer = type(error).__name__
        seconds = time.monotonic() - began
        took.append(seconds)
        if answer != "200":
            wrong.append(answer)
        if seconds > STALL_SECONDS:
            own = seconds - machines_part(pid, waited, _waits_of(pid))
            stalls.append(
                {"seconds": round(seconds, 2), "own": round(own, 2), "load": round(os.getloadavg()[0], 1)}
            )
        await asyncio.sleep(max(0.0, EVERY_SECONDS - seconds))
    took.sort()
    return {
        "asked": len(took),
        "p99_ms": round(took[int(len(took) * 0.99) - 1] * 1000, 1) if took else 0,
        "most_ms": round(took[-1] * 1000, 1) if took else 0,
        "wrong": wrong,
        "stalls": stalls,
        "own": [each for each in stalls if each["own"] > STALL_SECONDS],
    }


def _waits_of(pid: int) -> dict[str, float]:
    """Seconds for which each thread of web, and this process, has waited for a core so far."""
    found = {}
    for path in (*Path(f"/proc/{pid}/task").glob("*/schedstat"), Path("/proc/self/schedstat")):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return found


def machines_part(pid: int, before: dict[str, float], after: dict[str, float]) -> float:
    """Seconds of a stall between two looks at what the threads have waited: the machine's, not web's own."""
    waits = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    others = [seconds for name, seconds in waits.items() if name not in (str(pid), "self")]
    return waits[str(pid)] + waits["self"] + max(others, default=0.0)


async def _asked(url: str) -> str:
    """The status.  A connection for each, as a load balancer's."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).split()[1].decode()
    except IndexError:
        return "nothing"
    finally:
        writer.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(watch(sys.argv[1], int(sys.argv[2])))))
