"""Params may be large, up to a megabyte: queries over many tasks do not read them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import aiohttp
import pytest

from supervisor.database.interface.database import READER_THREADS, Transaction
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.new_task import NewTask
from tests.conftest import PARAMS, Store
from tests.support.houses.web_server import Web, bearer, until


def test_a_list_of_tasks_reads_nothing_of_their_params(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {**PARAMS, "parameters": {"text": "x" * 10_000}}
    new = NewTask("o-1", "photography", params)
    ids = [store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"] for _ in range(3)]
    read: list[dict[str, Any]] = []
    for_all, for_one = Transaction.all, Transaction.one
    monkeypatch.setattr(Transaction, "all", lambda *given, **named: _kept(read, for_all(*given, **named)))
    monkeypatch.setattr(
        Transaction, "one", lambda *given, **named: _kept(read, [for_one(*given, **named)])[0]
    )
    page = store.database.read(lambda tx: user_actions.page(tx, "o-1", limit=2))
    view = store.database.read(lambda tx: user_actions.get(tx, ids[0], "o-1"))
    assert [each["task_id"] for each in page.items] == ids[:0:-1] and view is not None
    assert len(read) >= 3 and max(len(str(row)) for row in read) < 10_000


async def test_a_user_with_slow_lists_delays_no_other(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended, page = list[int](), threading.Event(), user_actions.page

    def slowly(*given: Any, **more: Any) -> Any:
        begun.append(1)
        ended.wait(60)
        return page(*given, **more)

    async def ask(user: str, path: str) -> int:
        async with http.get(web.url + path, headers=bearer(user)) as response:
            return response.status

    monkeypatch.setattr(user_actions, "page", slowly)
    crowd = [asyncio.create_task(ask("crowd", "/v1/tasks")) for _ in range(2 * READER_THREADS)]
    try:
        await until(lambda: len(begun) >= READER_THREADS - 1, "the many lists are being read")
        async with asyncio.timeout(30):
            assert await ask("o-1", "/v1/credits") == 200
    finally:
        ended.set()
    assert set(await asyncio.gather(*crowd)) == {200}


def _kept(read: list[dict[str, Any]], rows: list[Any]) -> list[Any]:
    read += rows
    return rows
