"""A task as Replicate shows a prediction.  Pure.

The SDKs end `run()` at the first status that is not `starting`, so an order is answered as `starting` until it has
ended.  Any word that Replicate does not know breaks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

STATUSES = {
    "pending": "starting",
    "processing": "processing",
    "ai_processing": "processing",
    "completed": "succeeded",
    "failed": "failed",
    "cancelled": "canceled",
}
FINAL = ("succeeded", "failed", "canceled")
_BAR = 10


def prediction(
    task: Mapping[str, Any],
    *,
    model: str,
    version: str,
    given: Mapping[str, Any],
    origin: str,
    link: Callable[[str], str],
    is_order: bool = False,
    stream_proof: str = "",
) -> dict[str, Any]:
    """task: its view, files by key.  given: its params.  link: of a file's key, with the origin.

    is_order: this answers the order, and not a question about it.  stream_proof: the query that opens the stream, which
    is asked for without a key.
    """
    status = STATUSES[task["status"]]
    if is_order and status not in FINAL:
        status = "starting"
    error = task["error"] or {}
    address = f"{origin}/replicate/v1/predictions/{task['task_id']}"
    return {
        "id": task["task_id"],
        "model": model,
        "version": version,
        "input": input_of(given),
        "output": output_of(task, link),
        "logs": logs_of(task),
        "error": str(error.get("message", "The task failed.")) if status == "failed" else None,
        "status": status,
        "metrics": metrics_of(task),
        "created_at": task["created_at"],
        "started_at": task["started_at"],
        "completed_at": task["finished_at"],
        "data_removed": False,
        "source": "api",
        "urls": {"get": address, "cancel": f"{address}/cancel", "stream": f"{address}/stream{stream_proof}"},
    }


def input_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """What was ordered, in the usual words."""
    told = dict(params.get("parameters") or {})
    told |= {name: value for name, value in params.items() if name not in ("parameters", "images", "count")}
    if "count" in params:
        told["num_outputs"] = params["count"]
    if params.get("images"):
        told["image"] = params["images"][0] if len(params["images"]) == 1 else params["images"]
    return told


def output_of(task: Mapping[str, Any], link: Callable[[str], str]) -> Any:
    """Links to all that was made; its data where nothing else was; null unless it is completed."""
    result = task["result"] if task["status"] == "completed" else None
    if result is None:
        return None
    outputs = result.get("outputs") or {}
    made = [*(result.get("images") or []), *outputs.get("files", [])]
    return [link(each["key"]) for each in made] if made else outputs.get("data", [])


def logs_of(task: Mapping[str, Any]) -> str:
    """The stage, and a bar that the SDKs read the progress from."""
    percent = int(task["progress"] or 0)
    full = percent * _BAR // 100
    return f"{task['stage']}\n{percent:3d}%|{'#' * full}{' ' * (_BAR - full)}| {percent}/100\n"


def metrics_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds from the start to the end."""
    if not task["started_at"] or not task["finished_at"]:
        return {}
    started, finished = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
    return {"predict_time": round((finished - started).total_seconds(), 3)}
