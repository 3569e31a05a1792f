"""The time of a remote job's next poll.  Pure.

At first a job is polled as often as its service wants, then less and less: a job that has waited for ten minutes can
wait another minute.  So the cost of a job grows with the logarithm of its duration.  If the service reports by itself,
the job is polled seldom, in case a report was lost.  Jitter separates the polls of jobs that were submitted together.
"""

from __future__ import annotations

SHARE_OF_AGE = 0.1
MOST_SECONDS = 60.0
LEAST_SECONDS = 0.5  # for every service
JITTER = 0.2
REPORTING_TIMES = 6.0  # factor for a service that reports by itself
REPORTING_LEAST_SECONDS = 30.0
REPORTING_MOST_SECONDS = 300.0


def next_poll_seconds(hint_seconds: float, age_seconds: float, *, reports: bool, chance: float) -> float:
    """Seconds until the next poll.

    hint_seconds: the least wait that the service or its adapter wants.  age_seconds: since the job was submitted.
    reports: the service was given a callback address.  chance: uniform in [0, 1).
    """
    wait = min(MOST_SECONDS, max(age_seconds, 0.0) * SHARE_OF_AGE)
    if reports:
        wait = min(REPORTING_MOST_SECONDS, max(REPORTING_LEAST_SECONDS, wait * REPORTING_TIMES))
    return max(wait, hint_seconds, LEAST_SECONDS) * (1 + JITTER * chance)
