"""What a webhook says to a receiver that was written for another service's webhooks.  Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.doors.fal_request import webhook_of
from supervisor.doors.replicate_prediction import prediction


def door_message_body(
    door: Mapping[str, Any],
    task: Mapping[str, Any],
    params: Mapping[str, Any],
    link: Callable[[str], str],
    media_type: Callable[[str], str],
) -> bytes:
    """The bytes that are signed and sent.

    door: {"door", "origin"}, and of Replicate's {"model", "version"}, as the order has left it.  task: as it ended,
    files by key.  link: of a file's key, without an origin; media_type: of a key.
    """
    origin = str(door["origin"])

    def linked(key: str) -> str:
        return origin + link(key)

    if door["door"] == "fal":
        told = webhook_of(task, params, linked, media_type)
    else:
        told = prediction(
            task,
            model=str(door["model"]),
            version=str(door["version"]),
            given=params,
            origin=origin,
            link=linked,
        )
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
