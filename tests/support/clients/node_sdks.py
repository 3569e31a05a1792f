"""Official SDKs for JavaScript in one Node process: what each call returned or threw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.npm_packages import SDKS, npm_packages

SCRIPT = Path(__file__).parents[2] / "front_ends" / "door_sdks.mjs"
LINE_BYTES = 16 * 1024 * 1024


class Thrown(Exception):
    """What an SDK threw.  name, status, body: as far as it had them."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.name, self.status, self.body = error["name"], error["status"], error["body"]


class NodeSdks:
    """url: of the server that they are sent to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(
        self, sdk: str, call: str, *, url: str, key: str, more: dict[str, Any] | None = None, **given: Any
    ) -> Any:
        """What the call returned.  given: its input.  Raises Thrown."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        todo = {
            "id": number,
            "sdk": sdk,
            "call": call,
            "url": url,
            "key": key,
            "input": given,
            "more": more or {},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(todo).encode() + b"\n")
        await self._process.stdin.drain()
        told = await answer
        if "error" in told:
            raise Thrown(told["error"])
        return told["result"]

    async def listen(self) -> None:
        """Bring answers to whoever has asked, until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            self._answers.pop(told["id"]).set_result(told)
        for answer in self._answers.values():
            answer.set_exception(RuntimeError("Node has ended"))


@contextlib.asynccontextmanager
async def node_sdks(folder: Path) -> AsyncIterator[NodeSdks]:
    """folder: an empty one, for the script beside its packages."""
    packages = await asyncio.to_thread(npm_packages, SDKS)
    (folder / "node_modules").symlink_to(packages / "node_modules")
    shutil.copy(SCRIPT, folder)
    process = await asyncio.create_subprocess_exec(
        packages / "node_modules/node/bin/node", folder / SCRIPT.name,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES,
    )  # fmt: skip
    sdks = NodeSdks(process)
    listening = asyncio.create_task(sdks.listen())
    try:
        yield sdks
    finally:
        process.kill()
        await process.wait()
        await listening
