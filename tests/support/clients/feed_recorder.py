"""500 users' tasks under load, while their clients disconnect at random: each must receive every change exactly once.

A whole `darkroom up` runs the tasks; tests.support.clients.stream_recorder listens, vanishes and reconnects. At the end
each client's state must equal the database, and it must have received all seqs in order.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time

import aiohttp

from supervisor.security.tokens import make_user_token
from tests.support.clients.stream_recorder import Recorder
from tests.support.running_system import RunningSystem, probe_settings, running_system

USERS = 500
SECONDS = 60.0
TASKS_A_SECOND = 30
SETTLE_SECONDS = 120.0
_SECRET = "a secret of the bench, long enough for HS256"
_PARAMS = '{"images":["https://example.com/a.jpg"]}'


def run(users: int = USERS, seconds: float = SECONDS, seed: int = 1) -> dict[str, str]:
    """{what: figures}.  Raises RuntimeError when a client received anything other than the database's changes."""
    settings = probe_settings() | {"PROVIDERS__probe__OPTIONS__wait_seconds": "0.2", "SECRET": _SECRET}
    with running_system(**settings) as system:
        return asyncio.run(_record(system, users, seconds, random.Random(seed)))


async def _record(system: RunningSystem, users: int, seconds: float, draw: random.Random) -> dict[str, str]:
    names = [f"o-{n}" for n in range(users)]
    recorders = [
        Recorder(
            name,
            system.url,
            {"Authorization": f"Bearer {make_user_token(_SECRET, name, ttl_seconds=3600)}"},
            random.Random(draw.random()),
        )
        for name in names
    ]
    database = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15, check_same_thread=False)
    calm = asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        following = [asyncio.create_task(recorder.follow(session, calm)) for recorder in recorders]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            ordered = [(draw.choice(names), _PARAMS) for _ in range(draw.randrange(TASKS_A_SECOND // 5 * 2))]
            await asyncio.to_thread(_order, database, ordered)
            await asyncio.sleep(0.2)
        calm.set()
        await _settle(database, recorders)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    wrong = [fault for recorder in recorders for fault in recorder.faults]
    wrong += [fault for recorder in recorders for fault in differences(database, recorder)]
    if wrong:
        raise RuntimeError(f"{len(wrong)} clients' records differ from the database: {wrong[:5]}")
    changes = sum(len(recorder.seqs) for recorder in recorders)
    connections = sum(recorder.connections for recorder in recorders)
    (tasks,) = database.execute("SELECT count(*) FROM task_queue").fetchone()
    return {
        f"{users} clients, {seconds:g} s": f"{tasks:,} tasks, {changes:,} changes over {connections:,} connections",
        "missed, doubled or out of order": "none",
        "final states that differ from the database": "none",
    }


def _order(database: sqlite3.Connection, ordered: list[tuple[str, str]]) -> None:
    database.executemany("INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'probe', ?)", ordered)
    database.commit()


async def _settle(database: sqlite3.Connection, recorders: list[Recorder]) -> None:
    """Wait until every task has ended and every client has received the newest change."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        (open_,) = database.execute("SELECT count(*) FROM task_queue WHERE finished_at IS NULL").fetchone()
        newest = dict(database.execute("SELECT user_openid, seq FROM account"))
        if not open_ and all(recorder.seq == newest.get(recorder.user, 0) for recorder in recorders):
            return
        await asyncio.sleep(0.2)
    raise RuntimeError("Not every client was told the newest change in time.")


def differences(database: sqlite3.Connection, recorder: Recorder) -> list[str]:
    """The differences between a recorder's changes and the database."""
    user = recorder.user
    wrong = []
    row = database.execute("SELECT seq FROM account WHERE user_openid = ?", (user,)).fetchone()
    if recorder.seqs != list(range(recorder.first_seq + 1, (row[0] if row else 0) + 1)):
        wrong.append(f"{user} was told {len(recorder.seqs)} changes after {recorder.first_seq} of {row}")
    stored = database.execute(
        "SELECT id, status, stage, progress, updated_at FROM works WHERE user_openid = ?", (user,)
    ).fetchall()
    told = [
        (doc["_id"], doc["status"], doc["stage"], doc["progress"], doc["updated_at"])
        for doc in recorder.state.values()
    ]
    if sorted(stored) != sorted(told):
        wrong.append(f"{user} believes {sorted(told)[:2]}, the database has {sorted(stored)[:2]}")
    return wrong
