"""A task as fal shows a request: its status, its output, its webhook.  Pure.

The SDK for Python raises on every status that is none of fal's three; the one for JavaScript then polls for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

STATUSES = {
    "pending": "IN_QUEUE",
    "processing": "IN_PROGRESS",
    "ai_processing": "IN_PROGRESS",
    "completed": "COMPLETED",
    "failed": "COMPLETED",
    "cancelled": "COMPLETED",
}


def links_of(task_id: str, app: str, origin: str) -> dict[str, str]:
    """Where a request is looked at and cancelled.  app: `owner/name`, as the SDKs build it from a longer one."""
    address = f"{origin}/fal/queue/{'/'.join(app.split('/')[:2])}/requests/{task_id}"
    return {
        "response_url": address,
        "status_url": f"{address}/status",
        "cancel_url": f"{address}/cancel",
    }


def status_of(task: Mapping[str, Any], app: str, origin: str, *, with_logs: bool) -> dict[str, Any]:
    """task: its view, with its place in the queue."""
    status = STATUSES[task["status"]]
    told: dict[str, Any] = {
        "status": status,
        "request_id": task["task_id"],
        **links_of(task["task_id"], app, origin),
    }
    if status == "IN_QUEUE":
        return {**told, "queue_position": task["queue_position"] or 0}
    told["logs"] = logs_of(task) if with_logs else None
    if status == "COMPLETED":
        told["metrics"] = {}
        fault = fault_of(task)
        if fault is not None:
            told |= {"error": fault[1], "error_type": fault[0]}
    return told


def logs_of(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stage and the progress, as one line."""
    message = f"{task['stage']} {int(task['progress'] or 0)}%"
    at = task["finished_at"] or task["started_at"] or task["created_at"]
    return [{"message": message, "level": "INFO", "source": "USER", "timestamp": at}]


def fault_of(task: Mapping[str, Any]) -> tuple[str, str] | None:
    """(kind, sentence) of a task that has ended without a result; None for any other."""
    if task["status"] == "cancelled":
        return "cancelled", "The request was cancelled."
    if task["status"] != "failed":
        return None
    error = task["error"] or {}
    return str(error.get("code", "internal")), str(error.get("message", "The request failed."))


def output_of(
    task: Mapping[str, Any],
    params: Mapping[str, Any],
    link: Callable[[str], str],
    media_type: Callable[[str], str],
) -> dict[str, Any]:
    """What a completed task has made.  link: of a file's key, with the origin; media_type: of a key."""
    result = task["result"] or {}
    outputs = result.get("outputs") or {}
    images = [
        {
            "url": link(each["key"]),
            "width": each["width"],
            "height": each["height"],
            "content_type": media_type(each["key"]),
        }
        for each in result.get("images") or []
    ]
    parameters = params.get("parameters") or {}
    told: dict[str, Any] = {"images": images, "prompt": params.get("prompt", "")}
    told |= {name: parameters[name] for name in ("seed",) if name in parameters}
    if outputs.get("files"):
        told["files"] = [
            {"url": link(each["key"]), "content_type": each.get("media_type"), "file_name": each.get("name")}
            for each in outputs["files"]
        ]
    if outputs.get("data") is not None:
        told["data"] = outputs["data"]
    return told


def webhook_of(
    task: Mapping[str, Any],
    params: Mapping[str, Any],
    link: Callable[[str], str],
    media_type: Callable[[str], str],
) -> dict[str, Any]:
    """What `fal_webhook` is told."""
    told: dict[str, Any] = {"request_id": task["task_id"], "gateway_request_id": task["task_id"]}
    fault = fault_of(task)
    if fault is None:
        return {**told, "status": "OK", "payload": output_of(task, params, link, media_type)}
    return {
        **told,
        "status": "ERROR",
        "error": fault[1],
        "payload": {"detail": fault[1], "error_type": fault[0]},
    }
