"""Pictures from outside made plain: whole, upright, without metadata, encoded anew.

Runs in an image child: no picture from outside is decoded in a worker's own process.  An unreadable picture among
several is left out; if none can be read, the answer is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from supervisor.pictures.normalise import encode_plain, plain_picture
from supervisor.pictures.picture_errors import PictureFault
from supervisor.pictures.thumbnails import write_thumbnail


def make_plain(request: Mapping[str, Any], before_decoding: Callable[[int], None]) -> list[dict[str, Any]]:
    """Carry out `{"files": [{"n", "path"}], "out", "most_pixels"}`; [{"n", "path", "width", "height", "thumbnail"}].

    A thumbnail is None, or {"path", "width", "height"} if the request asks for `thumbnails`.  Raises PictureFault if no
    file holds a usable picture.
    """
    made: list[dict[str, Any]] = []
    fault: PictureFault | None = None
    for file in request["files"]:
        try:
            answer = _made_plain(
                Path(file["path"]),
                Path(request["out"]),
                f"{request.get('name', '')}{file['n']}",
                int(request["most_pixels"]),
                before_decoding,
                with_thumbnail=bool(request.get("thumbnails")),
            )
        except PictureFault as error:
            fault = error
            continue
        made.append({"n": file["n"], **answer})
    if not made and fault is not None:
        raise fault
    return made


def _made_plain(
    source: Path,
    folder: Path,
    name: str,
    most_pixels: int,
    before_decoding: Callable[[int], None],
    *,
    with_thumbnail: bool,
) -> dict[str, Any]:
    """The file gets its name by a rename, so a reader always sees the whole file."""
    unfinished = folder / f".{name}.{os.getpid()}"
    try:
        with source.open("rb") as file, unfinished.open("w+b") as target:
            plain = plain_picture(file, most_pixels=most_pixels, before_decoding=before_decoding)
            picture = encode_plain(plain, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    path = folder / f"{name}.{picture.extension}"
    unfinished.replace(path)
    thumbnail = write_thumbnail(plain, folder / f"{name}-thumbnail.webp") if with_thumbnail else None
    return {"path": str(path), "width": picture.width, "height": picture.height, "thumbnail": thumbnail}
