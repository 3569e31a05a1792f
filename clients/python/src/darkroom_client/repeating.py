"""One request until it is answered: what is repeated, after which pause, and for how long.

Each request of this package may be repeated without harm.  An order, a cancel and a retry carry an `Idempotency-Key`,
so a repeat names the same task; a grant has its reference; an upload that comes twice is stored twice, and costs
nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from darkroom_client import errors
from darkroom_client.effects import Answer, Broken, Flow, GetToken, Pause, Request, Send

REPEATED = frozenset({408, 425, 429, 502, 503, 504})
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0
MOST_TRIES = 12
MOST_RETRY_AFTER_SECONDS = 3600.0
LATER = 0.1  # of what `Retry-After` asks for: so that clients with the same answer do not come together
_KIND = "urn:darkroom:problem:"


@dataclass(frozen=True)
class Setup:
    """What holds for all requests of a client.

    base: the server's address, without a slash at its end.  user: for whom a service acts.  patience_seconds: for how
    long one request is repeated.  now, chance: time in seconds, and a number in [0, 1).
    """

    base: str
    user: str | None = None
    patience_seconds: float = 60.0
    now: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def stamped(self, request: Request) -> Request:
        """The request with what each request carries."""
        if self.user is None or request.is_open:
            return request
        return replace(request, headers={**request.headers, "X-User": self.user})


def answered(setup: Setup, request: Request, *, gone_is_done: bool = False) -> Flow[Answer]:
    """The answer, whose status is 2xx.  Raises Refused, ConnectionFailed and UnexpectedAnswer.

    gone_is_done: a repeat that is answered 404 says that an earlier try had been heard.
    """
    request = setup.stamped(request)
    until = setup.now() + setup.patience_seconds
    token: str | None = None if request.is_open else (yield GetToken())
    is_renewed = False
    tries = 0
    while True:
        tries += 1
        got: Answer | Broken = yield Send(request, token)
        if isinstance(got, Answer) and 200 <= got.status < 300:
            return got
        if gone_is_done and tries > 1 and isinstance(got, Answer) and got.status == 404:
            return got
        if _is_unauthorized(got) and token is not None and not is_renewed:
            renewed: str | None = yield GetToken(refused=token)
            if renewed != token:
                token, is_renewed, tries = renewed, True, tries - 1
                continue
        error = error_of(got, request)
        pause = pause_after(tries, error, setup.chance())
        if pause is None or tries >= MOST_TRIES or setup.now() + pause > until:
            raise error
        yield Pause(pause)


def pause_after(tries: int, error: errors.DarkroomError, chance: float) -> float | None:
    """Seconds until the next try; None if there is none.  tries: so far, at least one.  chance: in [0, 1)."""
    if isinstance(error, errors.ConnectionFailed):
        return backoff(tries, chance)
    if isinstance(error, errors.Refused) and error.status in REPEATED:
        return error.retry_after * (1 + LATER * chance) or backoff(tries, chance)
    return None


def backoff(tries: int, chance: float) -> float:
    """Seconds, from half to the whole of what doubles with each try."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1)) * (0.5 + chance / 2)


def error_of(got: Answer | Broken, request: Request) -> errors.DarkroomError:
    """What an answer that is no success is raised as."""
    error = _refusal(got) if isinstance(got, Answer) else errors.ConnectionFailed(_unreached(got))
    error.key = request.headers.get("Idempotency-Key", "")
    return error


def _unreached(broken: Broken) -> str:
    return f"Darkroom could not be reached, or the connection broke: {broken.why}"


def _is_unauthorized(got: Answer | Broken) -> bool:
    return isinstance(got, Answer) and got.status == 401


def _refusal(answer: Answer) -> errors.DarkroomError:
    status = answer.status
    if status < 400:
        where = f" to {answer.headers['location']}" if "location" in answer.headers else ""
        return errors.UnexpectedAnswer(
            f"The address answered {status}{where}; give the address of Darkroom itself."
        )
    try:
        told = answer.json()
    except errors.UnexpectedAnswer:
        told = None
    told = told if isinstance(told, dict) else {}
    if not told and status not in REPEATED and status < 500:
        return errors.UnexpectedAnswer(f"Something else than Darkroom answered {status}: check the address.")
    kind = str(told.get("type", ""))
    mistakes = tuple(
        (str(each.get("pointer", "")), str(each.get("detail", "")))
        for each in told.get("errors") or ()
        if isinstance(each, dict)
    )
    of_status = errors.Unavailable if status >= 500 else errors.BadInput
    return errors.OF_STATUS.get(status, of_status)(
        str(told.get("detail") or f"The server answered {status}."),
        status=status,
        code=kind[len(_KIND) :] if kind.startswith(_KIND) else "",
        mistakes=mistakes,
        request_id=answer.headers.get("x-request-id", ""),
        retry_after=retry_after(answer),
    )


def retry_after(answer: Answer) -> float:
    """Seconds that the server asks for; 0 if it asks for none."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), MOST_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else 0.0
