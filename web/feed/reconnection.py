"""The times after which clients reconnect.  Pure.

After a restart every client of a process reconnects.  Each gets its own random wait from a window that grows with the
number of clients, so that a process can serve them.  Streams that end by `?rotate=` end at different times, so their
clients may reconnect almost at once.
"""

from __future__ import annotations

LEAST_RETRY_MILLISECONDS = 1000
RETRY_SPREAD_MILLISECONDS = range(2000, 9001)
STREAMS_A_SECOND = 1000  # streams that a process can open in a second beside its other work
SOON_MILLISECONDS = (50, 500)

ROTATE_SECONDS = range(5, 3601)
EARLIER = 0.1  # a rotation comes up to a tenth before its time: not all at once
LOOK_SECONDS = 1.0  # the interval of checks for streams whose time is over


def retry_window(streams: int) -> tuple[int, int]:
    """The window, in milliseconds, in which so many clients reconnect."""
    spread = streams * 1000 // STREAMS_A_SECOND
    spread = min(max(spread, RETRY_SPREAD_MILLISECONDS[0]), RETRY_SPREAD_MILLISECONDS[-1])
    return LEAST_RETRY_MILLISECONDS, LEAST_RETRY_MILLISECONDS + spread


def rotation(text: str) -> int | None:
    """The seconds of `?rotate=`; None for an invalid value."""
    if text.isascii() and text.isdigit() and len(text) <= 4 and int(text) in ROTATE_SECONDS:
        return int(text)
    return None


def life_of(rotate_seconds: float, *, chance: float) -> float:
    """The seconds after which a stream is due that must end within so many.  chance: uniform in [0, 1)."""
    return rotate_seconds * (1 - EARLIER * chance) - LOOK_SECONDS
