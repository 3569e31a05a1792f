"""Params may be large, up to a megabyte: whoever looks at many tasks does not pay for them."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.database import Transaction
from supervisor.store import tasks
from supervisor.store.orders import NewTask
from tests.conftest import PARAMS, Store


def test_a_list_of_tasks_reads_nothing_of_their_params(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {**PARAMS, "parameters": {"text": "x" * 10_000}}
    new = NewTask("o-1", "photography", params)
    ids = [store.write(lambda tx: tasks.submit(tx, store.settings, new))["task_id"] for _ in range(3)]
    read: list[dict[str, Any]] = []
    for_all, for_one = Transaction.all, Transaction.one
    monkeypatch.setattr(Transaction, "all", lambda *given: _kept(read, for_all(*given)))
    monkeypatch.setattr(Transaction, "one", lambda *given: _kept(read, [for_one(*given)])[0])
    page = store.database.read(lambda tx: tasks.page(tx, "o-1", limit=2))
    view = store.database.read(lambda tx: tasks.get(tx, ids[0], "o-1"))
    assert [each["task_id"] for each in page.items] == ids[:0:-1] and view is not None
    assert len(read) >= 3 and max(len(str(row)) for row in read) < 10_000


def _kept(read: list[dict[str, Any]], rows: list[Any]) -> list[Any]:
    read += rows
    return rows
