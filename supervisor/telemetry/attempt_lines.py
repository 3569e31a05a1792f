"""The last log lines of attempts that run in this process, as they were written: without secrets, short, no pictures.

The formatter notes each line; lines of attempts that nobody has asked to keep are dropped.
"""

from __future__ import annotations

import collections
import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST_LINES = 20
HEAD_CHARACTERS, TAIL_CHARACTERS = 300, 900  # of a long text the cause stands at its end
_PICTURE = re.compile(r"(?:data:[\w/+.-]+;base64,)?[A-Za-z0-9+/=_-]{120,}")
_UNSTORABLE = re.compile(
    "[\x00\ud800-\udfff]"
)  # no database takes these, and the end of an attempt must be stored
_COLOUR = re.compile(r"(?:\x1b|\\u001b)\[[0-9;]*m")

Lines = collections.deque[str]
_kept: dict[tuple[str, int], Lines] = {}


@contextlib.contextmanager
def keeping(task_id: str, lease: int) -> Iterator[Lines]:
    """Keep the lines of an attempt; they are in the given queue, the oldest first."""
    lines: Lines = collections.deque(maxlen=MOST_LINES)
    _kept[task_id, lease] = lines
    try:
        yield lines
    finally:
        del _kept[task_id, lease]


def note(event: Mapping[str, Any], line: str) -> None:
    """Note a written line.  event: what it says, by names; `task` and `lease` say whose it is."""
    if not _kept:
        return
    lines = _kept.get((event.get("task", ""), event.get("lease", 0)))
    if lines is not None:
        lines.append(shortened(line))


def shortened(line: str) -> str:
    """A line, or a traceback, without colours and long runs that are no words, and not too long."""
    plain = _PICTURE.sub("…", _COLOUR.sub("", _UNSTORABLE.sub("\ufffd", line)))
    if len(plain) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return plain
    return f"{plain[:HEAD_CHARACTERS]} … {plain[-TAIL_CHARACTERS:]}"
