"""A third-party AI service that paints what it is sent, and a house with the example of docs/task-types.md."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

from tests.support.repository import ROOT
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.served_app import ServedApp

PAGE = ROOT / "docs" / "task-types.md"
GROUNDS = ((60, 90, 160), (190, 120, 70), (80, 140, 100), (120, 80, 150))


class Painter(ServedApp):
    """Lays what it is sent on a lit ground.  answer_with: the status of its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self.answer_with = 200
        self._may_answer = asyncio.Event()
        self._may_answer.set()

    def hold(self, is_holding: bool) -> None:
        """Keep every request without an answer, until it is let go."""
        self.loop.call_soon_threadsafe(self._may_answer.clear if is_holding else self._may_answer.set)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/edits", self._paint)
        return app

    async def _paint(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.asked.append(asked)
        await self._may_answer.wait()
        if self.answer_with != 200:
            return web.json_response({"error": {"message": "No."}}, status=self.answer_with)
        return web.json_response(
            {"data": [{"b64_json": painted(asked["image"], GROUNDS[n])} for n in range(asked["n"])]}
        )


def painted(data_uri: str, colour: tuple[int, int, int]) -> str:
    """The picture on a ground of this colour, in base64."""
    kind, _, data = data_uri.partition(",")
    assert kind == "data:image/png;base64", kind
    cut = Image.open(io.BytesIO(base64.b64decode(data)))
    assert cut.mode == "RGBA"
    light = Image.radial_gradient("L").resize(cut.size)
    ground = Image.composite(
        Image.new("RGB", cut.size, tuple(each // 4 for each in colour)),
        Image.new("RGB", cut.size, colour),
        light,
    )
    ground.paste(cut, mask=cut.getchannel("A"))
    made = io.BytesIO()
    ground.save(made, "PNG")
    return base64.b64encode(made.getvalue()).decode()


@contextlib.contextmanager
def portrait_house(folder: Path, flux: Painter, backup: Painter) -> Iterator[RunningSystem]:
    """A running `darkroom up` with the type `portrait` as the page declares it, its painters on this host."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    [example] = [each for each in blocks if "[[tasks." in each]
    toml = example.replace("https://flux.example.com", flux.url)
    toml = toml.replace("https://backup.example.com", backup.url)
    assert toml.count("127.0.0.1") == 2
    (folder / "darkroom.toml").write_text(toml, encoding="utf-8")
    with running_system(
        config=folder / "darkroom.toml",
        lifted=False,
        WORKER_PROCESSES="1",
        WORKER_THREADS="4",
        PROVIDERS__flux__ALLOW_PRIVATE_ADDRESSES="true",
        PROVIDERS__flux_backup__ALLOW_PRIVATE_ADDRESSES="true",
        TASKS__portrait__MAX_ATTEMPTS="1",
    ) as opened:
        yield opened
