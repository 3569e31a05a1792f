"""What an ordinary user feels while another does their worst: p99 of a GET, an order and an upload, as a ratio.

In the same run and by turns: some seconds without and some seconds with each storm (`bench.storms`), so whatever else
the machine does meets both alike.  The ordinary user sends one request of each kind at a time, over a connection of its
own, at a steady pace; one that has no answer within `PATIENCE_SECONDS` counts as that long.  Orders are not due before
tomorrow, so no worker takes part.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
from PIL import Image

from bench.figures import Quantiles
from bench.running_system import REPOSITORY, RunningSystem, running_system
from bench.storms import STORMS
from supervisor.tokens import make_user_token

ROUNDS = 3
SECONDS = 4.0
SETTLE_SECONDS = 1.0  # from the start of a storm's program until it is counted, and after its end
PATIENCE_SECONDS = 30.0
EVERY_SECONDS = {"GET": 0.05, "order": 0.1, "upload": 0.4}


@dataclass
class Felt:
    """Milliseconds by kind of request; refused: answers that were not 2xx, by status."""

    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in EVERY_SECONDS})
    refused: dict[str, int] = field(default_factory=dict)

    def p99(self, kind: str) -> float:
        """Of one kind of request."""
        sample = self.milliseconds[kind]
        return Quantiles.of(sample).p99 if len(sample) > 1 else sample[0]


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, str]:
    """{storm: ratios of p99, and the p99 of both sides}.  NEIGHBOURS=part of a name picks storms."""
    found: dict[str, str] = {}
    wanted = os.environ.get("NEIGHBOURS", "")
    with running_system() as system:
        for name in STORMS:
            if wanted in name:
                calm, stormy = Felt(), Felt()
                asyncio.run(_by_turns(system, name, rounds, seconds, calm, stormy))
                found[name] = _told(calm, stormy)
                print(f"{name}: {found[name]}", flush=True)
    return found


def _told(calm: Felt, stormy: Felt) -> str:
    ratios = [
        f"{kind} × {stormy.p99(kind) / calm.p99(kind):.1f} ({calm.p99(kind):.0f} → {stormy.p99(kind):.0f} ms)"
        for kind in EVERY_SECONDS
    ]
    refused = ", ".join(f"{count} × {what}" for what, count in stormy.refused.items())
    return "  ".join(ratios) + (f"  refused: {refused}" if refused else "")


async def _by_turns(
    system: RunningSystem, name: str, rounds: int, seconds: float, calm: Felt, stormy: Felt
) -> None:
    secret = (system.data_dir / "secret").read_text().strip()
    token = make_user_token(secret, "neighbour", ttl_seconds=3600)
    hog = make_user_token(secret, "hog", ttl_seconds=3600)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(system.url, headers=headers) as session:
        ordinary = await _ordinary_user(session)
        await _feel(ordinary, 1.0, Felt())  # everything is warm
        for _ in range(rounds):
            await _feel(ordinary, seconds, calm)
            storm = subprocess.Popen(  # noqa: ASYNC220
                [
                    sys.executable,
                    "-m",
                    "bench.storms",
                    name,
                    system.url,
                    hog,
                    str(seconds + 2 * SETTLE_SECONDS),
                ],
                cwd=REPOSITORY,
            )
            try:
                await asyncio.sleep(SETTLE_SECONDS)
                await _feel(ordinary, seconds, stormy)
            finally:
                await asyncio.to_thread(storm.wait)
            await _until_calm(session)


Send = Callable[[], Awaitable[aiohttp.ClientResponse]]


async def _ordinary_user(session: aiohttp.ClientSession) -> dict[str, Send]:
    """One request of each kind, as a call."""
    picture = _photo()
    jpeg = {"Content-Type": "image/jpeg"}
    async with session.post("/v1/images", data=picture, headers=jpeg) as response:
        image = (await response.json())["id"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds")
    order = {"type": "photography", "params": {"images": [image]}, "run_after": tomorrow}
    async with session.post("/v1/tasks", json=order) as response:
        task = (await response.json())["urls"]["task"]
    return {
        "GET": lambda: session.get(task),
        "order": lambda: session.post("/v1/tasks", json=order),
        "upload": lambda: session.post("/v1/images", data=picture, headers=jpeg),
    }


async def _feel(ordinary: dict[str, Send], seconds: float, felt: Felt) -> None:
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_go_on(kind, send, until, felt) for kind, send in ordinary.items()))


async def _go_on(kind: str, send: Send, until: float, felt: Felt) -> None:
    while (begun := time.perf_counter()) < until:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await send()
                await response.read()
            outcome = "" if response.ok else f"{kind} {response.status}"
        except (TimeoutError, aiohttp.ClientError) as error:
            outcome = f"{kind} {type(error).__name__}"
        took = time.perf_counter() - begun
        felt.milliseconds[kind].append(took * 1000)
        if outcome:
            felt.refused[outcome] = felt.refused.get(outcome, 0) + 1
        await asyncio.sleep(max(0.0, EVERY_SECONDS[kind] - took))


async def _until_calm(session: aiohttp.ClientSession) -> None:
    """What a storm left behind is over when three answers in a row are quick."""
    deadline, quick = time.perf_counter() + 4 * PATIENCE_SECONDS, 0
    while quick < 3 and time.perf_counter() < deadline:
        begun = time.perf_counter()
        async with session.get("/healthz", timeout=aiohttp.ClientTimeout(total=None)) as response:
            await response.read()
        quick = quick + 1 if time.perf_counter() - begun < 0.05 else 0
        await asyncio.sleep(0.2)
    await asyncio.sleep(SETTLE_SECONDS)


def _photo() -> bytes:
    """Two million pixels."""
    out = io.BytesIO()
    noise = Image.effect_noise((400, 300), 40).resize((1600, 1200))
    Image.merge("RGB", (noise, noise, noise)).save(out, "JPEG", quality=85)
    return out.getvalue()
