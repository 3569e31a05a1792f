"""An image child that behaves like an expensive picture; the bytes behind JPEG_HEAD choose how.

`burn`: use the CPU for ever; `eat`: take memory for ever; `sleep`: do nothing for ever; `hold PATH`: make a file at
PATH and wait until that file is gone. Everything else is decoded.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from supervisor.pictures import child_program

PIXELS = 8
JPEG_HEAD = b"\xff\xd8\xff\xe0"  # an upload is judged by its first bytes


def greedy(request: dict[str, Any], parent: child_program.Parent) -> list[dict[str, Any]]:
    source, target = parent.files(int(request["files_sent"]))
    source.seek(0)
    words = source.read().removeprefix(JPEG_HEAD).split(b" ")
    parent.before_decoding(PIXELS)
    eaten: list[bytes] = []
    match words:
        case [b"burn"]:
            while True:
                pass
        case [b"eat"]:
            while True:
                eaten.append(b"x" * 1_000_000)
        case [b"sleep"]:
            time.sleep(600)
        case [b"hold", path]:
            mark = Path(path.decode())
            mark.touch()
            while mark.exists():
                time.sleep(0.01)
    target.write(b"made")
    return [{"width": 1, "height": 1, "extension": "jpg", "bytes": 4, "sha256": "0" * 64}]


if __name__ == "__main__":
    child_program.PICTURE_BYTES = 32 * 1024 * 1024
    child_program.PICTURE_CPU_SECONDS = 1
    child_program.main({"upload": greedy})
