"""A task's data that is too large for lists: it is in the file store, and the answer about a single task includes
it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import orjson

from supervisor.media.shown_outputs import MOST_DATA_BYTES
from supervisor.objects.object_store import StoreAway
from web.handling.context import Context
from web.http.problems import unavailable


async def with_large_data(context: Context, view: Mapping[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """The shown task with its data.  view: as stored.  Raises a Problem, 503, if the store is away."""
    outputs = ((view["result"] or {}).get("outputs")) or {}
    key = outputs.get("data_key")
    if not key:
        return shown
    try:
        data = await context.on_files(_read, context, key)
    except FileNotFoundError:
        return shown  # aged out: `data` stays null
    except (StoreAway, OSError):
        raise unavailable("The task's data can't be fetched just now.", retry_after_seconds=5) from None
    return {**shown, "result": {**shown["result"], "data": orjson.loads(data)}}


def _read(context: Context, key: str) -> bytes:
    with contextlib.closing(context.files.open(key)) as file:
        pieces = []
        while piece := file.read(MOST_DATA_BYTES):
            pieces.append(piece)
        return b"".join(pieces)
