"""Clients that vanish at random while changes are made: each receives exactly what the database holds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3

import aiohttp

from supervisor.store.tasks import admission
from tests.support.clients.feed_recorder import differences
from tests.support.clients.stream_recorder import Recorder
from tests.support.houses.web_server import Web, bearer, until

USERS = 25
ROUNDS = 60


async def _make_changes(web: Web, database: sqlite3.Connection, draw: random.Random) -> None:
    """Tasks wait, change their stages and lose their works, a few users and commits at a time."""
    for n in range(ROUNDS):
        users = [f"o-{draw.randrange(USERS)}" for _ in range(draw.randrange(1, 12))]
        await asyncio.to_thread(_change_some, database, n, users)
        while await web.database.write_async(
            lambda tx: admission.admit_waiting(tx, web.settings, 100).get().rows
        ):
            pass
        await asyncio.sleep(0.02)


def _change_some(database: sqlite3.Connection, n: int, users: list[str]) -> None:
    for user in users[::2]:
        database.execute(
            """INSERT INTO task_queue (user_openid, type, params, run_after) VALUES
                (?, 'photography', '{"images":["https://example.com/a.jpg"]}', '2999-01-01T00:00:00.000Z')""",
            (user,),
        )
    for user in users[1::2]:
        database.execute("UPDATE task_queue SET stage = ? WHERE user_openid = ?", (f"stage {n}", user))
    database.commit()


async def test_clients_that_vanish_at_random_get_everything_once(web: Web) -> None:
    draw = random.Random(7)
    recorders = [
        Recorder(f"o-{n}", web.url, bearer(f"o-{n}"), random.Random(draw.random())) for n in range(USERS)
    ]
    calm = asyncio.Event()
    file = web.settings.database_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(file, timeout=15, check_same_thread=False)) as database:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            following = [asyncio.create_task(recorder.follow(http, calm)) for recorder in recorders]
            await _make_changes(web, database, draw)
            await until(
                lambda: sum(recorder.connections for recorder in recorders) > 2 * USERS,
                "they did vanish and come back",
            )
            calm.set()
            newest = dict(database.execute("SELECT user_openid, seq FROM account"))
            await until(
                lambda: all(recorder.seq == newest[recorder.user] for recorder in recorders),
                "every client has the newest change",
            )
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        assert [fault for recorder in recorders for fault in recorder.faults] == []
        assert [fault for recorder in recorders for fault in differences(database, recorder)] == []
    assert sum(len(recorder.seqs) for recorder in recorders) > 300
    await until(lambda: web.context.hub.is_idle, "every place was given back")
