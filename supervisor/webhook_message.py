"""What a webhook says: `{type, timestamp, data}`, with links to pictures made when it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def message_body(
    type_: str, ended_at: str, data: Mapping[str, Any], address_of: Callable[[str], str]
) -> bytes:
    """The bytes that are signed and sent.  data: the task as it ended.  address_of: of a picture, by its key."""
    result = data["result"]
    if result is not None:
        images = [
            {"url": address_of(each["key"]), "width": each["width"], "height": each["height"]}
            for each in result["images"]
        ]
        data = {**data, "result": {"images": images}}
    whole = {"type": type_, "timestamp": ended_at, "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
