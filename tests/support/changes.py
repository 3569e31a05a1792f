"""Many changes of a user, made in few commits."""

from __future__ import annotations

import asyncio

from supervisor.store.tasks import admission
from tests.support.houses.web_server import Web


async def make_changes(web: Web, user: str, count: int) -> None:
    """So many changes of one user, each a task that fails at admission, in few commits."""
    for start in range(0, count, 500):
        await asyncio.to_thread(_insert_many, web, user, min(500, count - start))
        while await web.database.write_async(
            lambda tx: admission.admit_waiting(tx, web.settings, 500).get().rows
        ):
            pass


def _insert_many(web: Web, user: str, count: int) -> None:
    web.sql(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO task_queue (user_openid, type, params) SELECT CAST(? AS TEXT), 'photography', '{}' FROM n""",
        count, user,
    )  # fmt: skip
