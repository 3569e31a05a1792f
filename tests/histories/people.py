"""Users, operators and programs that write SQL: they ask for anything at any time and accept a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import peewee

from supervisor.core.errors import Fault
from supervisor.store.feed import works
from supervisor.store.operators import operator_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import user_actions
from tests.support.databases import REFUSED

if TYPE_CHECKING:
    from tests.histories.world import World

USERS = ("o-1", "o-2", "o-3")


class People:
    """All of them.  The functions of a web process for each HTTP request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ordered = 0
        self.own_ids = (
            "order-1",
            "order-2",
            "order-3",
        )  # producers who name their tasks, and use names again

    async def run(self) -> None:
        """Ask for something, again and again, until the history becomes calm."""
        world = self._world
        while not world.is_calm:
            await asyncio.sleep(world.draw.expovariate(1 / world.profile.seconds_between_wishes))
            if world.is_calm:
                return
            wishes = [
                (self._order, 40), (self._cancel, 12), (self._retry, 14), (self._delete_work, 4),
                (self._order_by_sql, 8), (self._retry_by_sql, 6), (self._move_by_sql, 5), (self._delete_by_sql, 2),
                (self._operate, 6), (self._change_ones_mind, 10),
            ]  # fmt: skip
            wish = world.draw.choices([each for each, _ in wishes], [weight for _, weight in wishes])[0]
            world.loop.start(world.web, wish())

    async def _ask(self, step: Any) -> None:
        try:
            await self._world.doors["web"].write_async(step)
        except (Fault, *REFUSED, peewee.PeeweeException) as refusal:
            self._world.note(f"refused: {str(refusal).splitlines()[0]}")

    def _by_sql(self, sql: str, *params: Any) -> None:
        try:
            self._world.by_sql(sql, *params)
        except REFUSED as refusal:
            self._world.note(f"refused by the database: {str(refusal).splitlines()[0]}")

    def _new(self) -> tuple[str, str, dict[str, Any], int, str | None]:
        draw = self._world.draw
        user, type_ = draw.choice(USERS), draw.choice(self._world.types)
        params = {"images": [f"image-{user}"], "count": draw.choice((1, 1, 2, 3))}
        later = self._world.clock.text(draw.uniform(1, 120)) if draw.random() < 0.1 else None
        return user, type_, params, draw.choice((0, 0, 0, 5, -5)), later

    async def _order(self) -> None:
        user, type_, params, priority, later = self._new()
        own: dict[str, Any] = {}
        if type_ == "free" and self._world.draw.random() < 0.5:
            own = {"task_id": self._world.draw.choice(self.own_ids), "webhook": "https://example.org/hook"}
        new = user_actions.NewTask(user, type_, params, priority, later, **own)
        await self._ask(lambda tx: user_actions.submit(tx, self._world.settings, new))

    async def _order_by_sql(self) -> None:
        user, type_, params, priority, later = self._new()
        if self._world.draw.random() < 0.1:
            params = {"images": ["nobody's"]}
        self._insert(user, type_, params, priority, later)

    def _insert(
        self, user: str, type_: str, params: dict[str, Any], priority: int, later: str | None
    ) -> None:
        self._ordered += 1
        self._by_sql(
            "INSERT INTO task_queue (id, user_openid, type, params, priority, run_after) VALUES (?, ?, ?, ?, ?, ?)",
            f"sql-{self._ordered}", user, type_, self._world.json(params), priority, later,
        )  # fmt: skip

    def _some(self, *statuses: str) -> str | None:
        return self._world.model.some_task(statuses)

    async def _cancel(self) -> None:
        task_id = self._some("pending", "processing", "ai_processing")
        if task_id is not None:
            await self._ask(lambda tx: user_actions.cancel(tx, task_id))

    async def _retry(self) -> None:
        task_id = self._some("failed", "cancelled")
        if task_id is not None:
            await self._ask(lambda tx: user_actions.resubmit(tx, self._world.settings, task_id))

    async def _change_ones_mind(self) -> None:
        """Cancel a running task, and retry it a moment later."""
        found = sorted(
            each.id
            for each in self._world.model.tasks.values()
            if each.worker_id and each.status != "cancelled"
        )
        if not found:
            return
        draw = self._world.draw
        await self._have_it_made_again(draw.choice(found), draw.choice((0.0, 0.5, 10.0)) * draw.random())

    async def _have_it_made_again(self, task_id: str, pause_seconds: float) -> None:
        web, settings = self._world.doors["web"], self._world.settings
        with contextlib.suppress(Fault, *REFUSED, peewee.PeeweeException):
            await web.write_async(lambda tx: user_actions.cancel(tx, task_id))
            await asyncio.sleep(pause_seconds)
            await web.write_async(lambda tx: user_actions.resubmit(tx, settings, task_id))

    def make_use_of(self, changed: Sequence[str]) -> None:
        """A process has changed these tasks and gets its answer late: meanwhile their users change their minds."""
        world = self._world
        for task_id in changed:
            if world.chance(0.7):
                world.loop.start(world.web, self._have_it_made_again(task_id, world.draw.random()))

    def push_in(self, type_: str) -> None:
        """A user orders tasks of this type that come before the waiting ones."""
        for _ in range(2):
            user = self._world.draw.choice(USERS)
            self._insert(user, type_, {"images": [f"image-{user}"], "count": 1}, 10, None)

    async def _delete_work(self) -> None:
        task_id = self._some("completed", "failed", "cancelled", "processing")
        found = self._world.rows("SELECT id, user_openid FROM works WHERE task_id = ?", task_id or "")
        for work_id, user in found:
            await self._ask(functools.partial(works.delete, work_id=work_id, user=user))

    async def _retry_by_sql(self) -> None:
        self._by_sql(
            "UPDATE task_queue SET status = 'pending' WHERE id = ?", self._some("failed", "cancelled") or ""
        )

    async def _move_by_sql(self) -> None:
        task_id, draw = self._some("pending") or "", self._world.draw
        if draw.random() < 0.5:
            self._by_sql("UPDATE task_queue SET priority = ? WHERE id = ?", draw.randint(-10, 10), task_id)
        else:
            later = draw.choice((None, self._world.clock.text(60.0)))
            self._by_sql("UPDATE task_queue SET run_after = ? WHERE id = ?", later, task_id)

    async def _delete_by_sql(self) -> None:
        self._by_sql(
            "DELETE FROM task_queue WHERE id = ?", self._some("completed", "failed", "cancelled") or ""
        )

    async def _operate(self) -> None:
        world, draw = self._world, self._world.draw
        match draw.choice(("pause", "resume", "release", "release", "drain")):
            case "pause":
                kind, names = draw.choice((("type", world.types), ("provider", tuple(world.services))))
                name = draw.choice(names)
                await self._ask(
                    lambda tx: operator_actions.pause(tx, Operator("ops", "operator"), kind, name, "because")
                )
                await asyncio.sleep(draw.uniform(1, 40))
                await self._ask(
                    lambda tx: operator_actions.resume(tx, Operator("ops", "operator"), kind, name)
                )
            case "release":
                task_id = self._some("pending", "processing", "ai_processing")
                if task_id is not None:
                    await self._ask(
                        lambda tx: operator_actions.release(
                            tx, world.settings, Operator("ops", "operator"), task_id
                        )
                    )
            case "drain":
                living = [each for each in world.workers if each.is_up and not each.process.is_dead]
                if living:
                    worker_id = draw.choice(living).worker.id
                    await self._ask(
                        lambda tx: operator_actions.drain(tx, Operator("ops", "operator"), worker_id)
                    )
