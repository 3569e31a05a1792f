"""A web with a worker beside it in the same event loop: what an order's prompt says becomes of it.

"refuse": it fails as a service refuses content.  "wait": nothing happens until the test does it.  Else its pictures are
made and stored at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.claim import Claim
from supervisor.security.tokens import make_user_token
from supervisor.store.queue import workers
from supervisor.store.tasks import claims, user_actions
from tests.conftest import dispatch
from tests.support.databases import SQLITE
from tests.support.houses.web_server import SECRET, Web, picture_bytes, running_web, until
from tests.support.workers import complete, report_progress

REFUSED = "The service refuses this content."


class DoorShop:
    """web, and what a test does to orders that wait."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.held: dict[str, Claim] = {}
        self.picture = picture_bytes(size=(8, 6))

    @property
    def url(self) -> str:
        return self.web.url

    def key(self, user: str, role: Any = "user") -> str:
        """What an SDK is given as its key."""
        return make_user_token(SECRET, user, role, ttl_seconds=600)

    async def run(self) -> None:
        """Work until cancelled."""
        await self.write(lambda tx: workers.register(tx, "worker-1", host="here", pid=1, slots=10_000))
        while True:
            for claim in await self.write(lambda tx: dispatch(tx, self.web.settings)):
                await self._work(claim)
            await asyncio.sleep(0.01)

    async def _work(self, claim: Claim) -> None:
        prompt = self.params(claim.task_id).get("prompt", "")
        if "wait" in prompt:
            self.held[claim.task_id] = claim
        elif "refuse" in prompt:
            await self.fail(claim)
        else:
            await self.complete(claim)

    async def write(self, step: Any) -> Any:
        return await self.web.database.write_async(step)

    async def complete(self, claim: Claim) -> None:
        """Make as many pictures as were ordered."""
        made = []
        for n in range(self.params(claim.task_id).get("count", 1)):
            key = f"results/{claim.task_id}-{n}.jpg"
            await asyncio.to_thread(self.web.context.files.put, key, io.BytesIO(self.picture))
            made.append({"key": key, "width": 8, "height": 6})
        await self.write(lambda tx: complete(tx, claim.task_id, claim.lease, made, 0))

    async def fail(self, claim: Claim) -> None:
        await self.write(lambda tx: claims.fail(tx, claim.task_id, claim.lease, "content_rejected", REFUSED))

    async def progress(self, claim: Claim, percent: int, stage: str = "developing") -> None:
        await self.write(lambda tx: report_progress(tx, claim.task_id, claim.lease, percent, stage))

    async def cancel(self, task_id: str) -> None:
        await self.write(lambda tx: user_actions.cancel(tx, task_id))

    def stall_answers(self, monkeypatch: pytest.MonkeyPatch, while_: Callable[[], bool]) -> None:
        """Orders at fal's queue are stored and not answered meanwhile: connections are to be cut in between."""
        placed = self.web.context.queue_positions.placed

        async def placed_or_stalled(view: Any) -> Any:
            await until(lambda: not while_(), "orders are answered again")
            return await placed(view)

        monkeypatch.setattr(self.web.context.queue_positions, "placed", placed_or_stalled)

    async def held_of(self, user: str, count: int = 1) -> list[Claim]:
        """Claims of this user's orders that wait, once there are so many."""

        def mine() -> list[Claim]:
            return [self.held[id_] for id_ in self.tasks(user) if id_ in self.held]

        await until(lambda: len(mine()) >= count, f"{count} orders of {user} wait")
        return mine()

    def tasks(self, user: str) -> list[str]:
        """Ids of all orders of this user, oldest first."""
        return [
            id_
            for (id_,) in self.web.sql("SELECT id FROM task_queue WHERE user_openid = ? ORDER BY id", user)
        ]

    def debits(self, user: str) -> int:
        """How often this user has paid."""
        rows = self.web.sql(
            "SELECT count(*) FROM credit_entry WHERE user_openid = ? AND kind = 'debit'", user
        )
        return int(rows[0][0])

    def params(self, task_id: str) -> dict[str, Any]:
        ((params,),) = self.web.sql("SELECT params FROM task_queue WHERE id = ?", task_id)
        found: dict[str, Any] = json.loads(params) if isinstance(params, str) else params
        return found


@contextlib.asynccontextmanager
async def door_shop(folder: Path, kind: str = SQLITE, **settings: Any) -> AsyncIterator[DoorShop]:
    """A web of its own, at work."""
    async with running_web(folder, kind, **settings) as web:
        shop = DoorShop(web)
        running = asyncio.create_task(shop.run())
        try:
            yield shop
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
