"""The events of a streamed answer: drafts are progress, completed pictures are the result.  Pure.

A draft is a whole picture, and was paid for.  If the stream ends without a completed picture, the last draft is the
result.
"""

from __future__ import annotations

import json
from typing import Any

from actors.providers.common.event_stream import ServerEvent

_FIRST_PERCENT, _LAST_PERCENT = 10, 85


class StreamedAnswer:
    """Collects the events of one picture.  drafts: how many were requested.

    is_draft: whether its result is one."""

    def __init__(self, drafts: int) -> None:
        self._drafts = drafts
        self._seen = 0
        self._pictures: list[dict[str, Any]] = []
        self._draft: dict[str, Any] = {}
        self._error: Any = None
        self._usage: Any = None

    def take(self, event: ServerEvent) -> int | None:
        """The percentage of an event; None for one without any."""
        try:
            document = json.loads(event.data)
        except ValueError:
            return None  # the stream's end is marked by a word that is not JSON
        if not isinstance(document, dict):
            return None
        kind = str(document.get("type", event.name))
        if kind.endswith(".partial_image"):
            self._seen += 1
            self._draft = _picture(document) or self._draft
            share = min(1.0, self._seen / (self._drafts + 1))
            return round(_FIRST_PERCENT + (_LAST_PERCENT - _FIRST_PERCENT) * share)
        if kind.endswith((".completed", ".partial_succeeded")):  # the second: Ark's word
            self._pictures += filter(None, [_picture(document)])
        self._usage = document.get("usage") or self._usage
        if document.get("error") and not self._error:
            self._error = document["error"]
        return None

    @property
    def is_draft(self) -> bool:
        return bool(self._draft) and not self._pictures and not self._error

    def document(self) -> dict[str, Any] | None:
        """The answer in the form without a stream; None if the stream ended before its first result."""
        if self._pictures:
            return {"data": self._pictures, **({"usage": self._usage} if self._usage else {})}
        if self._error:
            return {"error": self._error}
        return {"data": [self._draft]} if self._draft else None


def _picture(document: dict[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("b64_json", "url") if document.get(key)}
