"""The JS client in a Node process of its own, driven by a test: its commands and its output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.support.houses.web_server import DEADLINE_SECONDS

FRONT_ENDS = Path(__file__).parents[2] / "front_ends"
NODE = shutil.which("node")
# Of the client: a line that is quiet for so long is cut, and asked for again so soon.
QUICK = {"silenceMs": 1500, "firstBytesMs": 1000, "streamAgainMs": 1000, "longestPauseMs": 1000}


class NodeClient:
    """The messages that a page has received so far. snapshots, states, errors: by the name of the watch."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []
        self._heard = asyncio.Event()

    def do(self, what: str, /, **more: Any) -> None:
        """Send it a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")

    def snapshots(self, name: str = "main") -> list[dict[str, Any]]:
        return [line["snapshot"] for line in self.said if line.get("name") == name and "snapshot" in line]

    def states(self, name: str = "main") -> list[str]:
        return [line["state"] for line in self.said if line.get("name") == name and "state" in line]

    def errors(self, name: str = "main") -> list[dict[str, Any]]:
        return [line["error"] for line in self.said if line.get("name") == name and "error" in line]

    def docs(self, name: str = "main") -> list[dict[str, Any]]:
        """What the page shows."""
        return list(self.snapshots(name)[-1]["docs"]) if self.snapshots(name) else []

    def changes(self, name: str = "main") -> list[dict[str, Any]]:
        """All changes in CloudBase's words, without those of first lists."""
        told = [snapshot for snapshot in self.snapshots(name) if snapshot.get("type") != "init"]
        return [
            change for snapshot in told for change in snapshot["docChanges"] if change["dataType"] != "alias"
        ]

    def told(self, what: str) -> list[Any]:
        """A page's output of one kind: works, toast, error, result, rejected."""
        return [line[what] for line in self.said if what in line]

    async def ask(self, *path: list[Any], by: str = "db") -> Any:
        """The results of the page's `db` for calls one after the other; {refused, kind} for a refusal. by "callbacks":
        the last call's return value and the callbacks that were called, {returned, came}.
        """
        before = len(self.told("result"))
        self.do(by, path=path)
        return (await self.until(lambda: self.told("result")[before:], f"an answer to {path}", 90))[0]

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
        """Wait until a named condition holds for the output."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := condition()):
                    self._heard.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._heard.wait(), 0.05)
        except TimeoutError:
            raise AssertionError(
                f"not in {seconds:g} s: {what}; the last it said: {self.said[-5:]}"
            ) from None
        return found

    async def call(self, method: str, *args: Any) -> Any:
        """The result of a method of the client; an AssertionError with the error that it throws."""
        before = len(self.said)
        self.do("call", method=method, args=args)

        def answer() -> dict[str, Any] | None:
            return next((line for line in self.said[before:] if line.get("method") == method), None)

        line = await self.until(answer, f"{method} has answered", 90)
        assert "error" not in line, line["error"]
        return line.get("result")

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.append(json.loads(line))
            self._heard.set()


@contextlib.asynccontextmanager
async def node_client(
    module: Path, base_url: str, *tokens: str, wx: dict[str, Any] | None = None, node: Path | None = None,
    **settings: Any,
) -> AsyncIterator[NodeClient]:  # fmt: skip
    """module: the client's file, .mjs or .cjs.  tokens: one, or those given one after the other.  wx: as a phone.
    node: the program, if it is not the system's."""
    given = {"module": str(module), "settings": {"baseUrl": base_url, **settings}, "tokens": tokens, "wx": wx}
    async with _node("watcher.mjs", given, node) as client:
        yield client


@contextlib.asynccontextmanager
async def node_page(
    page: Path, module: Path, base_url: str, token: str, openid: str, *, domains: list[str] | None = None,
    **settings: Any,
) -> AsyncIterator[NodeClient]:  # fmt: skip
    """A mini-program's page with one line changed.  domains: the origins that WeChat lets it ask; None: all."""
    given = {
        "page": str(page), "module": str(module), "settings": {"baseUrl": base_url, **settings},
        "token": token, "openid": openid, "domains": domains,
    }  # fmt: skip
    async with _node("page.mjs", given) as client:
        yield client


@contextlib.asynccontextmanager
async def _node(driver: str, given: dict[str, Any], node: Path | None = None) -> AsyncIterator[NodeClient]:
    process = await asyncio.create_subprocess_exec(
        node or NODE or "node", str(FRONT_ENDS / driver), json.dumps(given),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
    )  # fmt: skip
    client = NodeClient(process)
    reading = asyncio.create_task(client.read())
    try:
        await client.until(lambda: {"ready": True} in client.said, "node has started", 60)
        yield client
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
