"""Users' file names, made safe to store, show and save."""

from __future__ import annotations

import re

MOST_CHARACTERS = 200
_UNFIT = re.compile('[\x00-\x1f\x7f\ud800-\udfff:*?"<>|]+')


def plain_name(given: str) -> str:
    """The last part of a path, without characters that some system forbids; `file` if nothing is left."""
    name = _UNFIT.sub("_", re.split(r"[/\\]", given)[-1]).strip(" .")
    stem, dot, extension = name.rpartition(".")
    if len(name) > MOST_CHARACTERS and dot and len(extension) < 20:
        name = f"{stem[: MOST_CHARACTERS - len(extension) - 1]}.{extension}"
    return name[:MOST_CHARACTERS] or "file"
