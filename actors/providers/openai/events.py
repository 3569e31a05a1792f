"""What a streamed answer says: drafts are progress, completed pictures are the result.  Pure."""

from __future__ import annotations

import json
from typing import Any

from actors.providers.wire.event_stream import ServerEvent

_FIRST_PERCENT, _LAST_PERCENT = 10, 85


class StreamedAnswer:
    """Gathers the events of one picture.  drafts: how many were asked for."""

    def __init__(self, drafts: int) -> None:
        self._drafts = drafts
        self._seen = 0
        self._pictures: list[dict[str, Any]] = []
        self._error: Any = None

    def take(self, event: ServerEvent) -> int | None:
        """The percentage that an event stands for, None for one without any."""
        try:
            document = json.loads(event.data)
        except ValueError:
            return None  # the stream's end is marked by a word that is no JSON
        if not isinstance(document, dict):
            return None
        kind = str(document.get("type", event.name))
        if kind.endswith(".partial_image"):
            self._seen += 1
            share = min(1.0, self._seen / (self._drafts + 1))
            return round(_FIRST_PERCENT + (_LAST_PERCENT - _FIRST_PERCENT) * share)
        if kind.endswith((".completed", ".partial_succeeded")):  # the second: Ark's word
            self._pictures.append({key: document[key] for key in ("b64_json", "url") if document.get(key)})
        if document.get("error") and not self._error:
            self._error = document["error"]
        return None

    def document(self) -> dict[str, Any] | None:
        """The answer as it would have come without a stream; None when the stream ended before it said anything."""
        if self._pictures:
            return {"data": self._pictures}
        return {"error": self._error} if self._error else None
