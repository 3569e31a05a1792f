"""The messages about one event in the stream of a Gradio app's queue.  Pure.

| `msg` | the event |
|---|---|
| `estimation` | waits; `rank` is its place, from 0 |
| `process_starts`, `progress`, `process_generating` | runs; `progress_data` says how far it is |
| `process_completed` | is over: `output.data`, or `output.error` where `success` is false |
| `unexpected_error` | is over, with an unknown outcome |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from actors.providers.common.event_stream import ServerEvent

_WAITING_PERCENT, _FIRST_PERCENT, _LAST_PERCENT = 10, 15, 85


class QueueStream:
    """Collects the messages about one event.

    document: `output` of the end, None until then.  failed: whether it ended badly.  trouble: what `unexpected_error`
    says.
    """

    def __init__(self, event_id: str) -> None:
        self._event_id = event_id
        self.document: Any = None
        self.failed = False
        self.trouble = ""

    def take(self, event: ServerEvent) -> tuple[int, str] | None:
        """(percent, stage) of a message; None for one without any."""
        try:
            message = json.loads(event.data)
        except ValueError:
            return None
        if not isinstance(message, Mapping) or message.get("event_id") not in (None, self._event_id):
            return None
        match message.get("msg"):
            case "estimation":
                rank = message.get("rank")
                place = (
                    f"number {rank + 1} in the app's queue" if isinstance(rank, int) else "in the app's queue"
                )
                return _WAITING_PERCENT, place
            case "process_starts":
                return _FIRST_PERCENT, "running in the app"
            case "progress" | "process_generating":
                share = _share(message.get("progress_data"))
                if share is None:
                    return None
                return round(_FIRST_PERCENT + (_LAST_PERCENT - _FIRST_PERCENT) * share), "running in the app"
            case "process_completed":
                self.failed = message.get("success") is not True
                self.document = message.get("output") if isinstance(message.get("output"), Mapping) else {}
            case "unexpected_error":
                self.trouble = str(message.get("message") or "no reason given")
        return None


def _share(progress: Any) -> float | None:
    """From 0 to 1, of the last bar."""
    bar = progress[-1] if isinstance(progress, list) and progress else None
    if not isinstance(bar, Mapping):
        return None
    done, of = bar.get("progress"), bar.get("length")
    if done is None and isinstance(bar.get("index"), int | float) and isinstance(of, int | float) and of > 0:
        done = bar["index"] / of
    if not isinstance(done, int | float) or not math.isfinite(done):
        return None
    return min(1.0, max(0.0, float(done)))


def files_in(document: Any) -> list[Mapping[str, Any]]:
    """Every file of an output, in order; galleries have theirs inside objects."""
    found: list[Mapping[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            if isinstance(value.get("path") or value.get("url"), str):
                found.append(value)
                return
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(document)
    return found
