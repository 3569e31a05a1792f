"""The content of a webhook: `{type, timestamp, data}`, with links to pictures that are signed when it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.core.shown_images import shown_images
from supervisor.media.shown_outputs import with_outputs


def message_body(
    type_: str, ended_at: str, data: Mapping[str, Any], address_of: Callable[[str], str]
) -> bytes:
    """The bytes to sign and send.  data: the task as it ended.  address_of: returns a picture's address for its key."""
    result = data["result"]
    if result is not None:
        shown = {**result, "images": shown_images(result["images"], address_of)}
        data = {**data, "result": with_outputs(shown, address_of)}
    whole = {"type": type_, "timestamp": ended_at, "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
