"""How clients are asked to come back: when, and spread over how long.  Pure.

After a restart every client of a process comes back; each is told a wait of its own, drawn from a window that is the
wider the more there are, so that they come at a pace a process can take.  A stream that ends by appointment
(`?rotate=`) is one of many that end at different times, so its client may come back almost at once.
"""

from __future__ import annotations

LEAST_RETRY_MILLISECONDS = 1000
RETRY_SPREAD_MILLISECONDS = range(2000, 9001)
STREAMS_A_SECOND = 1000  # what a process opens in a second while it serves others too
SOON_MILLISECONDS = (50, 500)

ROTATE_SECONDS = range(5, 3601)
EARLIER = 0.1  # a rotation comes up to a tenth before its time: not all at once
LOOK_SECONDS = 1.0  # how often streams are looked through for those whose time has come


def retry_window(streams: int) -> tuple[int, int]:
    """The milliseconds between which so many clients are to come back."""
    spread = streams * 1000 // STREAMS_A_SECOND
    spread = min(max(spread, RETRY_SPREAD_MILLISECONDS[0]), RETRY_SPREAD_MILLISECONDS[-1])
    return LEAST_RETRY_MILLISECONDS, LEAST_RETRY_MILLISECONDS + spread


def rotation(text: str) -> int | None:
    """The seconds that `?rotate=` asks for; None for what can't be."""
    if text.isascii() and text.isdigit() and len(text) <= 4 and int(text) in ROTATE_SECONDS:
        return int(text)
    return None


def life_of(rotate_seconds: float, *, chance: float) -> float:
    """The seconds after which a stream is found due that is to end within so many.  chance: uniform in [0, 1)."""
    return rotate_seconds * (1 - EARLIER * chance) - LOOK_SECONDS
