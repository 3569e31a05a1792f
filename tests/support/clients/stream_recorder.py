"""A client of the event stream that leaves at random and records the changes that it receives.

It knows the stream from the HTML standard and docs/http-reference.md alone, and uses nothing of Darkroom's: its final
state and the seqs that it received are evidence about the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import aiohttp

LISTEN_SECONDS = 1.5  # the mean; each stay is drawn anew
AWAY_SECONDS = 0.3


class Recorder:
    """state: {work id: its last document}.  seqs: of every change, as they came.  faults: what must never happen."""

    def __init__(self, user: str, url: str, headers: dict[str, str], draw: random.Random) -> None:
        self.user = user
        self.state: dict[str, Any] = {}
        self.seqs: list[int] = []
        self.first_seq = -1
        self.faults: list[str] = []
        self.connections = 0
        self._url, self._headers, self._draw = url, headers, draw
        self._last_event_id: str | None = None

    @property
    def seq(self) -> int:
        """The newest seq that it received; -1 before the first event."""
        return self.seqs[-1] if self.seqs else self.first_seq

    async def follow(self, session: aiohttp.ClientSession, calm: asyncio.Event) -> None:
        """Connect, listen for a while, vanish, come back, until cancelled; once it is calm, stay."""
        while True:
            stay = None if calm.is_set() else self._draw.expovariate(1 / LISTEN_SECONDS)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                async with asyncio.timeout(stay) as limit:
                    waiting = asyncio.create_task(self._stay_when_calm(calm, limit))
                    try:
                        await self._listen(session)
                    finally:
                        waiting.cancel()
            await asyncio.sleep(self._draw.random() * AWAY_SECONDS)

    async def _stay_when_calm(self, calm: asyncio.Event, limit: asyncio.Timeout) -> None:
        await calm.wait()
        limit.reschedule(None)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        """One connection, which is cut at whatever byte it has come to."""
        headers = dict(self._headers)
        if self._last_event_id is not None:
            headers["Last-Event-ID"] = self._last_event_id
        timeout = aiohttp.ClientTimeout(total=None)
        response = await session.get(self._url + "/v1/works/feed", headers=headers, timeout=timeout)
        try:
            if response.status != 200:
                self.faults.append(f"{self.user}: the feed was answered {response.status}")
                return
            self.connections += 1
            fields: dict[str, str] = {}
            async for line in response.content:
                if not line.endswith(b"\n"):
                    return  # cut off amid an event, which then never happened
                if text := line.rstrip(b"\r\n").decode():
                    name, _, value = text.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                if "data" in fields and fields.get("event") != "bye":
                    self._take(fields["event"], fields["id"], json.loads(fields["data"]))
                fields = {}
        finally:
            response.close()

    def _take(self, event: str, event_id: str, data: dict[str, Any]) -> None:
        if event == "init" and self._last_event_id is None:
            self.first_seq = data["id"]
            self.state = {doc["_id"]: doc for doc in data["docs"]}
        elif event == "change" and len(data["docChanges"]) == 1 and data["id"] == self.seq + 1:
            self.seqs.append(data["id"])
            change = data["docChanges"][0]
            if change["dataType"] == "remove":
                self.state.pop(change["docId"], None)
            else:
                self.state[change["docId"]] = change["doc"]
        else:
            self.faults.append(f"{self.user}: `{event}` {data['id']} came after {self.seq}")
        self._last_event_id = event_id
