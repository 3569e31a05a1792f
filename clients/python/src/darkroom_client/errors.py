"""What can go wrong, as one small tree under `DarkroomError`.  The text of an error is a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darkroom_client.models import Task


class DarkroomError(Exception):
    """Everything that this package raises for a reason outside your own code.

    key: the `Idempotency-Key` of the request, "" if it had none.  A request that is sent again with the same key names
    the same task, also from another process.
    """

    key: str = ""


class ConnectionFailed(DarkroomError):
    """Darkroom could not be reached, or the connection broke, as often as it was tried.

    An order may have been stored all the same: send it again with `key`, and it names the same task.
    """


class UnexpectedAnswer(DarkroomError):
    """Something answered that is not Darkroom, such as a proxy or a login page: check the address."""


class Refused(DarkroomError):
    """Darkroom said no.  Its subclasses say why.

    status: of HTTP.  code: a short name for programs, such as "insufficient_credits", or "".  mistakes: (place in the
    body, sentence) of each thing that is wrong.  request_id: the `X-Request-Id` of the answer, "" without one.
    retry_after: seconds after which it may be tried again, 0 if nothing was said.
    """

    def __init__(
        self,
        sentence: str,
        *,
        status: int,
        code: str = "",
        mistakes: tuple[tuple[str, str], ...] = (),
        request_id: str = "",
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(sentence)
        self.status, self.code, self.mistakes = status, code, mistakes
        self.request_id, self.retry_after = request_id, retry_after


class BadInput(Refused):
    """400, 413, 415, 422: the request is wrong; `mistakes` says where.  Change it before you send it again."""


class Unauthorized(Refused):
    """401: without a token, or with one that has expired or was revoked."""


class InsufficientCredits(Refused):
    """402: the balance does not cover the price.  Nothing was stored."""


class Forbidden(Refused):
    """403: this token may not do this."""


class NotFound(Refused):
    """404: there is no such task, work or user, or it belongs to another user."""


class Conflict(Refused):
    """409: the task is in a state in which this can't be done; it has finished, for one."""


class LimitReached(Refused):
    """429: a limit of this user, for longer than the client was allowed to wait."""


class Unavailable(Refused):
    """500 and above: the queue is full, the server stops or is in trouble, for longer than the client was to wait."""


class TaskFailed(DarkroomError):
    """The task has ended without a result, and its credits came back.  code: why, such as "content_rejected"."""

    def __init__(self, sentence: str, code: str, task: Task) -> None:
        super().__init__(sentence)
        self.code, self.task = code, task


class TaskCancelled(TaskFailed):
    """The task was cancelled; code is "cancelled"."""


class StillRunning(DarkroomError):
    """The time for which you wanted to wait is over, and the task goes on."""


class WebhookRefused(DarkroomError):
    """A message that is not Darkroom's, was altered, or is too old: answer it with 400, and do nothing."""


OF_STATUS: dict[int, type[Refused]] = {
    401: Unauthorized,
    402: InsufficientCredits,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: LimitReached,
}
