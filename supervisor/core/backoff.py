"""How long to wait before a failed task runs again.  Pure.

Full jitter: uniform between nothing and a ceiling that doubles with each failure, so that tasks which failed
together do not return together (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

FIRST_SECONDS = 2.0
MOST_SECONDS = 300.0


def backoff_seconds(failures: int, *, chance: float, retry_after_seconds: float | None = None) -> float:
    """Seconds until the next attempt.

    failures: attempts that have failed so far, at least 1.  chance: uniform in [0, 1).
    retry_after_seconds: what the service asked for; it is obeyed as the least.
    """
    ceiling = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 20))
    return max(chance * ceiling, retry_after_seconds or 0.0)
