"""Output: JSON, and stored documents with links in place of file keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from supervisor.core.json_text import json_bytes
from supervisor.store.sql.rows import Page
from web.feed.feed_event import Link, with_links

_TASK_FIELDS = (
    "task_id",
    "work_id",
    "type",
    "status",
    "stage",
    "progress",
    "queue_position",
    "eta_seconds",
    "attempt",
    "max_attempts",
    "error",
    "result",
    "created_at",
    "started_at",
    "finished_at",
)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer that no cache may keep, because it belongs to one user and changes."""
    return web.Response(
        status=status,
        body=json_bytes(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def shown_task(view: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """A task as docs/http-reference.md shows it."""
    shown = {field: view[field] for field in _TASK_FIELDS}
    if view["result"] is not None:
        shown["result"] = with_links(view["result"], link)
    return shown


def steps_with_links(steps: Sequence[Mapping[str, Any]], link: Link) -> dict[str, Any]:
    """The member `steps` of a task; nothing for a type without steps.  steps: as `supervisor.store.tasks.shown_steps`
    gives them."""
    shown = [
        {name: value for name, value in with_links(dict(step), link).items() if name != "images" or value}
        for step in steps
    ]
    return {"steps": shown} if shown else {}


def accepted_task(view: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a submission: the task, and the address to watch it."""
    task = f"/v1/tasks/{view['task_id']}"
    return {
        "task_id": view["task_id"],
        "work_id": view["work_id"],
        "status": view["status"],
        "queue_position": view["queue_position"],
        "urls": {
            "task": task,
            "work": f"/v1/works/{view['work_id']}",
            "feed": "/v1/works/feed",
            "cancel": f"{task}/cancel",
        },
    }


def shown_page(page: Page, items: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer of a list."""
    return {"items": items, "next": page.next}
