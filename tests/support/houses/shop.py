"""A user's works, changed by the same store functions as the workers use: for tests of front ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.store.feed import works
from supervisor.store.queue import workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, remote_wait, user_actions
from tests.conftest import dispatch
from tests.support.houses.web_server import Web
from tests.support.workers import complete, report_progress

USER = "o-1"


class Shop:
    """A user's works, moved by the same store functions that workers use."""

    def __init__(self, web: Web, user: str = USER) -> None:
        self.web, self.user = web, user

    async def write(self, step: Callable[[Any], Any]) -> Any:
        return await self.web.database.write_async(step)

    async def order(self, count: int = 1, type_: str = "photography") -> list[str]:
        """So many tasks, admitted; their ids."""
        params = {"images": ["https://example.org/1.jpg"] * (2 if type_ == "fitting" else 1), "count": 1}
        new = user_actions.NewTask(self.user, type_, params, 0, None)

        def submit(tx: Any) -> list[str]:
            return [str(user_actions.submit(tx, self.web.settings, new)["task_id"]) for _ in range(count)]

        return list(await self.write(submit))

    async def claim(self) -> list[Claim]:
        """All that waits, in a worker's hands."""
        if not self.web.sql("SELECT 1 FROM worker"):
            await self.write(lambda tx: workers.register(tx, "worker-1", host="here", pid=1, slots=10_000))
        return list(await self.write(lambda tx: dispatch(tx, self.web.settings)))

    async def progress(self, claim: Claim, percent: int, stage: str = "developing") -> None:
        await self.write(lambda tx: report_progress(tx, claim.task_id, claim.lease, percent, stage))

    async def complete(self, claim: Claim) -> None:
        small = {"key": f"results/{claim.task_id}-thumbnail.webp", "width": 2, "height": 1}
        made = [{"key": f"results/{claim.task_id}.jpg", "width": 4, "height": 3, "thumbnail": small}]
        await self.write(lambda tx: complete(tx, claim.task_id, claim.lease, made, 0))

    async def remove(self, work_id: str) -> None:
        await self.write(lambda tx: works.delete(tx, work_id, self.user))

    def seq(self) -> int:
        return int(self.web.sql("SELECT seq FROM account WHERE user_openid = ?", self.user)[0][0])

    def truth(self) -> list[tuple[str, str, int]]:
        """(id, status, progress) of every work, newest first."""
        return self.web.sql(
            "SELECT id, status, progress FROM works WHERE user_openid = ? ORDER BY created_at DESC, id DESC",
            self.user,
        )

    async def fail(self, claim: Claim) -> None:
        await self.write(
            lambda tx: claims.fail(tx, claim.task_id, claim.lease, "provider_error", "It broke.")
        )

    async def hand_off(self, claim: Claim) -> None:
        """A service has accepted it, and is asked again in ten minutes."""

        def accepted(tx: Any) -> None:
            evidence = remote_jobs.begin(tx, claim, "ai", Provider(kind="http"), 0, pictures=(0,))
            remote_jobs.accepted(tx, evidence, "r-1")
            remote_wait.hand_off(
                tx, claim.task_id, claim.lease, poll_in_seconds=600, remote_limit_seconds=3600
            )

        await self.write(accepted)

    async def cancel(self, task_id: str) -> None:
        await self.write(lambda tx: user_actions.cancel(tx, task_id, self.user))
