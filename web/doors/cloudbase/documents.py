"""Rows as CloudBase's documents, with the names that functions and pages use.  Pure.

A member without a value is null.  Times are Dates; pictures are links that are valid for `FILE_LINK_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from supervisor.store.sql.rows import decoded
from web.feed.feed_event import Link, with_links

_TASK_TIMES = ("created_at", "updated_at", "processing_started_at")
_ENDS = {"completed": "completed_at", "failed": "failed_at", "cancelled": "cancelled_at"}


def task_document(row: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """A task.  row: of `store.tasks.search.find`."""
    images = decoded(row["work_images"]) if row["status"] == "completed" else None
    shown = with_links({"images": images}, link) if images is not None else None
    return {
        "_id": row["id"],
        "user_openid": row["user_openid"],
        "type": row["type"],
        "status": row["status"],
        "stage": row["stage"],
        "progress": row["progress"],
        "params": decoded(row["params"]),
        "priority": row["priority"],
        "work_id": row["work_id"],
        "attempt": row["attempt"],
        "error": decoded(row["error"]),
        "result": shown,
        **{name: _moment(row[name]) for name in _TASK_TIMES},
        **{
            name: _moment(row["finished_at"]) if row["status"] == status else None
            for status, name in _ENDS.items()
        },
    }


def work_document(doc: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """A work.  doc: from the feed."""
    shown = with_links(dict(doc), link)
    return {**shown, "created_at": _moment(doc["created_at"]), "updated_at": _moment(doc["updated_at"])}


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
