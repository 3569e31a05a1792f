"""What is left in a worker of a webhook that could not be delivered."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from actors.entry.claim_handlers import WORK
from actors.webhooks import webhook_delivery
from actors.worker.worker import Worker
from supervisor.objects.open_store import open_file_store
from supervisor.store.webhooks.deliveries import Message
from tests.conftest import Store
from tests.support.houses.web_server import until
from tests.support.models.kept_objects import kept_of

ENDED = "2026-11-30T00:00:00.000Z"


@pytest.mark.sqlite_only
async def test_a_webhook_whose_receiver_can_not_be_reached_is_freed_without_the_collector(
    store: Store, live_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message may be of megabytes, and its receiver away for days."""
    webhooks = store.settings.webhooks.model_copy(update={"allow_private_addresses": True})
    settings = store.settings.model_copy(update={"webhooks": webhooks})
    worker: Any = Worker(settings, None, store.database, open_file_store(settings), WORK)  # type: ignore[arg-type]
    worker.id = live_worker()
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))  # and listens to nobody
    url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
    message = Message("w", 1, "t", "o-1", url, "photography", {"result": None}, ENDED, 1)

    kept = kept_of(aiohttp.ClientSession, monkeypatch)
    await webhook_delivery._deliver(worker, message, "")
    gc.collect()
    gc.disable()
    try:
        for _ in range(4):
            await webhook_delivery._deliver(worker, message, "")
        assert kept.made >= 5
        await until(lambda: kept() <= 1, "no more than the last session is kept")
    finally:
        gc.enable()
        deaf.close()
    await worker.images.close()
