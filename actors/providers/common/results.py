"""The pictures of a finished remote job in its service's answer.  Pure.

Fetching a result orders nothing, for any answer:

| the answer | the job |
|---|---|
| 200-299 with pictures | is over, with them |
| 200-299, and says that the content or the order is refused, or names an error of its own | is over without |
| 200-299 that says neither | can't be read now: believed when it comes three times running |
| other 4xx that says that the content or the order is at fault | is over without |
| every other: 401, 403, 404, 410, 429, 5xx, a redirect | is asked for again, until the job's time is over |
"""

from __future__ import annotations

from actors.providers.base import (
    AtCapacity,
    ContentRejected,
    Failed,
    InvalidInput,
    ProviderError,
    RateLimited,
    ResultGone,
    Transient,
    Unreadable,
)
from actors.providers.common.answers import Answer, Rules, error_in, names_no_error, pictures_in
from actors.providers.common.picture_sources import Source


def result_in(answer: Answer, rules: Rules, *, now: float) -> list[Source] | Failed:
    """The pictures, or why there are none.  Raises Transient, Unreadable, RateLimited and AtCapacity."""
    is_good = 200 <= answer.status < 300
    try:
        if is_good:
            return pictures_in(answer, rules, now=now)
        raise error_in(answer, rules, now=now) or Transient("The AI service does not show the result.")
    except (RateLimited, AtCapacity):
        raise
    except (ContentRejected, InvalidInput) as error:
        return Failed(error)
    except ProviderError as error:
        if not is_good:  # the job is done, so its pictures may still come
            kind = ResultGone if answer.status in (404, 410) else Transient
            raise kind(f"The AI service does not show the result (HTTP {answer.status}).") from None
        if type(error) is ProviderError and not names_no_error(answer, rules):
            return Failed(error)
        raise Unreadable(error.message) from None
