"""What an ordinary user feels while another does their worst: p99 of a GET, an order and an upload, as a ratio.

In the same run and by turns: some seconds without and some seconds with each storm (`bench.storms`), so other load on
the machine affects both alike. The ordinary user sends one request of each kind at a time, over its own connection, at
a steady pace. A request without an answer within `PATIENCE_SECONDS` counts as that long.  Orders are not due before
tomorrow, so no worker takes part.

Storms of webhooks show elsewhere: `told` is the time from an order to its webhook. The picture takes no time to make,
so the figure includes storing it. Such a storm leaves messages that are sent for days, so each has a system of its own,
and all calm seconds come first.
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
from pathlib import Path

import aiohttp
from aiohttp import web
from PIL import Image

from bench.figures import Quantiles
from bench.storms import HANGING, SLOW, STORMS
from supervisor.security.tokens import make_user_token
from tests.support.running_system import REPOSITORY, RunningSystem, running_system
from tests.support.servers.served_app import ServedApp

ROUNDS = 3
SECONDS = 4.0
WARM_UP_SECONDS = 3.0
SETTLE_SECONDS = 1.0  # from the start of a storm's program until it is counted, and after its end
PATIENCE_SECONDS = 30.0
EVERY_SECONDS = {"GET": 0.05, "order": 0.1, "upload": 0.4, "told": 0.2}
JPEG = {"Content-Type": "image/jpeg"}
SLOW_NAMES_FOLDER = Path(__file__).parent / "slow_names"
OF_WEBHOOKS = (HANGING, SLOW)
SETTINGS_OF_WEBHOOKS = {
    "TASKS__instant__PROVIDER": "instant",
    "PROVIDERS__instant__KIND": "python",
    "PROVIDERS__instant__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true",
    "LOG_LEVEL": "error",  # or each message that is not told makes a line
}


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
    wanted = [name for name in STORMS if os.environ.get("NEIGHBOURS", "") in name]

    def measure(system: RunningSystem, name: str, rounds: int, seconds: float) -> None:
        calm, stormy = Felt(), Felt()
        with Receiver() as receiver:
            asyncio.run(_by_turns(system, name, rounds, seconds, calm, stormy, receiver))
        found[name] = _in_words(calm, stormy)
        print(f"{name}: {found[name]}", flush=True)

    if of_requests := [name for name in wanted if name not in OF_WEBHOOKS]:
        with running_system() as system:
            for name in of_requests:
                measure(system, name, rounds, seconds)
    for name in wanted:
        if name in OF_WEBHOOKS:
            with running_system(python_path=[SLOW_NAMES_FOLDER], **SETTINGS_OF_WEBHOOKS) as system:
                measure(system, name, 1, rounds * seconds)
    return found


class Receiver(ServedApp):
    """The ordinary user's own receiver of webhooks."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{name}", self._hear)
        return app

    async def _hear(self, request: web.Request) -> web.Response:
        loop, event = self._arrived[request.match_info["name"]]
        loop.call_soon_threadsafe(event.set)
        return web.Response(status=204)

    def expect(self) -> tuple[str, asyncio.Event]:
        """A separate address for one message, and an event that is set at its arrival."""
        name, event = f"hook-{len(self._arrived)}", asyncio.Event()
        self._arrived[name] = (asyncio.get_running_loop(), event)
        return f"{self.url}/{name}", event


def _in_words(calm: Felt, stormy: Felt) -> str:
    ratios = [
        f"{kind} × {stormy.p99(kind) / calm.p99(kind):.1f} ({calm.p99(kind):.0f} → {stormy.p99(kind):.0f} ms)"
        for kind, sample in calm.milliseconds.items()
        if sample and stormy.milliseconds[kind]
    ]
    refused = ", ".join(f"{count} × {what}" for what, count in stormy.refused.items())
    return "  ".join(ratios) + (f"  refused: {refused}" if refused else "")


async def _by_turns(
    system: RunningSystem,
    name: str,
    rounds: int,
    seconds: float,
    calm: Felt,
    stormy: Felt,
    receiver: Receiver,
) -> None:
    secret = (system.data_dir / "secret").read_text().strip()
    token = make_user_token(secret, "neighbour", ttl_seconds=3600)
    hog = make_user_token(secret, "hog", ttl_seconds=3600)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(system.url, headers=headers) as session:
        ordinary = await _ordinary_user(session)
        if name in OF_WEBHOOKS:
            ordinary["told"] = await _told(session, receiver)
        await _feel(ordinary, WARM_UP_SECONDS, Felt())
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


async def _told(session: aiohttp.ClientSession, receiver: Receiver) -> Send:
    """An order, until its webhook has arrived."""
    image = await _uploaded(session, _photo())

    async def order() -> aiohttp.ClientResponse:
        address, arrived = receiver.expect()
        body = {"type": "instant", "params": {"images": [image]}, "webhook": address}
        response = await session.post("/v1/tasks", json=body)
        if response.ok:
            await arrived.wait()
        return response

    return order


async def _uploaded(session: aiohttp.ClientSession, picture: bytes) -> str:
    async with session.post("/v1/images", data=picture, headers=JPEG) as response:
        return str((await response.json())["id"])


async def _ordinary_user(session: aiohttp.ClientSession) -> dict[str, Send]:
    """One request of each kind, as a call."""
    picture = _photo()
    image = await _uploaded(session, picture)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds")
    order = {"type": "photography", "params": {"images": [image]}, "run_after": tomorrow}
    async with session.post("/v1/tasks", json=order) as response:
        task = (await response.json())["urls"]["task"]
    return {
        "GET": lambda: session.get(task),
        "order": lambda: session.post("/v1/tasks", json=order),
        "upload": lambda: session.post("/v1/images", data=picture, headers=JPEG),
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
