"""The interface of every AI service's adapter: a job goes in; a result, a remote job or an error with a class comes
out.

The error's class decides what follows (`supervisor.core.rescue` draws the verdict); its `code` is what the user
sees (`error.code`, web/openapi/schemas.py), its text a sentence for them.  Pure.

The life of a remote job, and which part does what in it:

1. Our evidence is stored, then `submit` is called.  It returns the pictures (`Done`), or the service's confirmation
that it has the job: `Accepted`.  That is stored unchanged, under any lease.
2. The task waits, and no process holds anything for it.  When its poll is due, or the service has reported to
`Job.callback_url`, any worker gets the stored `Accepted` and calls `parse_callback` for each report, then `poll` unless
a report was decisive.  It may be another process than the one that submitted, on another host, after any number of
crashes: all that an adapter needs for polling must be in `Accepted.details`, and nothing in its own memory.
3. `Running` lets the task wait again and shows its progress; `Done` and `Failed` end the remote job.
4. When the task was cancelled or has ended otherwise, `cancel` is called until it returns True.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from supervisor.media.plain_data import plain_text
from supervisor.remote.amounts import amount_of
from supervisor.remote.unclear_answers import UNKNOWN_SECONDS

if TYPE_CHECKING:
    from actors.files.scratch import Scratch

T = TypeVar("T")

Progress = Callable[[int, str], None]  # (percent 0 … 99, stage)


@dataclass
class Bill:
    """The reported cost of a request, as the service wrote it; None without a report."""

    amount: str | None = None


@dataclass(frozen=True)
class Job:
    """One attempt's order.  inputs: local files, in the order of params["images"].  pictures: which n of 0 …
    count−1 to make; picture n must not depend on which others are made.  scratch: space for this attempt alone,
    of which an adapter sees `folder`.  own_process: do it in a separate process, since workers died during it.
    input_keys: the file store's key of each input, None for one that was given by its address.
    outputs: the results that the type declares: any of images, videos, audio, files and json.
    reference: the unique name of this request in our evidence of it, empty for a provider that is not paid.
    callback_url: the address for the service's report on this request, empty if the service can't reach us.

    While a remote job is polled or a report on it is read, `inputs` is empty: the pictures are not fetched for that.
    `pictures`, `seed`, `reference` and `callback_url` are those of the request that was submitted."""

    task_id: str
    type: str
    params: Mapping[str, Any]
    inputs: tuple[Path, ...]
    pictures: tuple[int, ...]
    count: int
    seed: int
    scratch: Scratch = field(compare=False, repr=False)
    ai_timeout_seconds: float
    own_process: bool = False
    input_keys: tuple[str | None, ...] = ()
    reference: str = ""
    callback_url: str = ""
    outputs: tuple[str, ...] = ("images",)
    bill: Bill = field(default_factory=Bill, compare=False, repr=False)

    @property
    def wants_files(self) -> bool:
        """Whether something else than pictures and data may come back."""
        return not set(self.outputs) <= {"images", "json"}

    def note_cost(self, amount: str | int | float | Decimal | None) -> None:
        """Report the cost of this request from the service, in the `cost_unit` of its settings; the last report counts.
        None, and a value that is not a number from 0, are ignored."""
        text = amount_of(amount)
        if text is not None:
            self.bill.amount = text

    @property
    def folder(self) -> Path:
        """The folder for this attempt's files; it is made at its first use, and deleted with the attempt."""
        return self.scratch.folder

    async def when_there_is_room(self, write: Callable[[], Awaitable[T]], /) -> T:
        """Write received results through this: while the disk is full the attempt waits, and the paid result is
        kept."""
        return await self.scratch.when_there_is_room(write)


@dataclass(frozen=True)
class MadeThumbnail:
    """A small WebP of a finished picture, as `supervisor.pictures.thumbnails` makes it: a local file."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class MadeImage:
    """A finished picture: n of 0 … count−1, a local file.  thumbnail: None for a picture that has none."""

    n: int
    path: Path
    width: int
    height: int
    thumbnail: MadeThumbnail | None = None


@dataclass(frozen=True)
class MadeFile:
    """A finished film, sound or other file: a local file.  name: for the user to save it; its bytes show its kind.
    width, height in pixels and duration_seconds where they are known."""

    path: Path
    name: str = ""
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True)
class Done:
    """The work is done.  images: the pictures that were made, in any order; missing ones are refunded, and the user's
    work says how many there are.  files: other results, at most 100.  data: JSON of at most 256 KiB, None for none.  A
    service that made nothing has failed: raise or return an error.

    without_pictures: the type makes no pictures, so that none are missing; this is implied if there are files or data
    and no picture."""

    images: tuple[MadeImage, ...] = ()
    files: tuple[MadeFile, ...] = ()
    data: Any = None
    without_pictures: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was made although something was ordered."""
        return not (self.images or self.files or self.data is not None or self.without_pictures)


@dataclass(frozen=True)
class Accepted:
    """The service has a remote job, and we wait for it.

    remote_id: the service's name for it, 1-500 characters.  poll_after_seconds: when the service wants the first poll.
    details: what `poll`, `cancel` and `parse_callback` need besides the id (addresses the service gave, a client's
    name), JSON-safe, at most 64 KiB, no secret.  reports: the service has `Job.callback_url` and will report the end,
    so it is polled seldom, in case a report is lost.  An adapter gets its own `remote_id` and `details` back; both are
    empty if a report came and the submitting worker died before it could store them."""

    remote_id: str
    poll_after_seconds: float = 5.0
    details: Mapping[str, Any] = field(default_factory=dict)
    reports: bool = False


@dataclass(frozen=True)
class Running:
    """The remote job is under way.

    progress: percent, or None if unknown.  poll_after_seconds: the least time to the next poll; a job that has waited
    for long is polled less often (`supervisor.remote.poll_backoff`).  was_asked: False from a `poll` if the service
    can't be polled, since it reports by itself."""

    progress: int | None = None
    stage: str | None = None
    poll_after_seconds: float = 5.0
    was_asked: bool = True


@dataclass(frozen=True)
class Failed:
    """The remote job is over without a result.  error: its class decides what follows, as if it were raised by
    `submit`: a Transient or Postponed job is submitted anew while attempts are left.  A Lost one counts only when it is
    repeated."""

    error: ProviderError


@dataclass(frozen=True)
class Report:
    """A message from a service to `Job.callback_url`: stored unchanged and not yet verified.

    headers: names in lower case; those that a signature may use (`webhook-…`, `x-…`, `content-type`, `signature…`,
    `digest…`).  body: at most 1 MiB; a larger body is not kept (`is_too_large`)."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def is_too_large(self) -> bool:
        """Whether the report was too large to keep: the service will send nothing else."""
        return self.headers.get("x-darkroom-report") == "too large"  # `store.remote.remote_reports.TOO_LARGE`


class NotGenuine(Exception):
    """The report is not from the service, or not about this job: it is dropped, and the job goes on."""


MOST_MESSAGE_CHARACTERS = 2000


class ProviderError(Exception):
    """An error of an AI service.  code: an `error.code` (web/openapi/schemas.py).  retryable: whether another attempt
    may help; by default the class decides.  An empty message becomes a sentence.  Message and code are stored: a
    character that a database refuses becomes U+FFFD, and the message ends after MOST_MESSAGE_CHARACTERS.  detail: the
    service's whole message, without secrets and links, only for operators; at most MOST_DETAIL_CHARACTERS."""

    code = "provider_error"
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        text = plain_text(str(message))[:MOST_MESSAGE_CHARACTERS]
        self.message = (
            text if text.strip() else f"The AI service failed with {type(self).__name__}, without a word."
        )
        super().__init__(self.message)
        self.detail = ""
        self.code = plain_text(code or type(self).code)
        self.retryable = type(self).retryable if retryable is None else retryable


class Transient(ProviderError):
    """A temporary error: the same request may succeed later.  Counts one attempt."""

    retryable = True


class InvalidInput(ProviderError):
    """The order itself is at fault and would fail again.  Fail and refund."""

    code = "invalid_input"


class ContentRejected(ProviderError):
    """The service refuses this content by its rules.  Fail and refund."""

    code = "content_rejected"


class Unreadable(Transient):
    """A good answer about a remote job that can't be interpreted.  The job is polled again, uncounted; three such
    answers in a row end it with this error, and it is not submitted again."""


class ResultGone(Transient):
    """The job is done, but its service says that there is no such result.  Requested again, uncounted, until the job's
    time is over; the job is never submitted again for this."""


class Lost(ProviderError):
    """The service does not know the remote job.  This counts after three times in a row, over at least
    `sure_after_seconds`: then the job is submitted again if the provider's `may_bill_twice` allows it, else it is
    polled until its time is over."""

    code = "remote_lost"
    retryable = True

    def __init__(self, message: str, *, sure_after_seconds: float = UNKNOWN_SECONDS) -> None:
        super().__init__(message)
        self.sure_after_seconds = sure_after_seconds


class UnknownOutcome(ProviderError):
    """The request was sent and no answer came: it may have been carried out and billed.  Repeated only if the
    provider's `may_bill_twice` allows it."""

    code = "unknown_outcome"


class CutOff(UnknownOutcome):
    """The connection ended after the request was sent, and before its answer: the service, or the network, failed
    meanwhile."""


class Ambiguous(UnknownOutcome):
    """The answer reports an error and does not show whether the request was carried out: a 500, or a gateway that lost
    the service's answer.  A temporary error if the provider's `may_bill_twice` allows it, else an unknown outcome."""


class ResultLost(UnknownOutcome):
    """The service has done the job, and perhaps billed it, but its pictures can't be fetched or used.
    Such a remote job is not submitted again."""

    code = "provider_error"


class Postponed(ProviderError):
    """Nothing was accepted and the order is not at fault: wait, uncounted.

    waits_for: the reason, one word for the task's history.
    """

    retryable = True
    waits_for = "at_capacity"
    usual_wait_seconds = 5.0

    def __init__(self, message: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = self.usual_wait_seconds if wait_seconds is None else wait_seconds


class RateLimited(Postponed):
    """Too many requests; the service says for how long (`retry_after`)."""

    waits_for = "rate_limited"


class AtCapacity(Postponed):
    """No room for another job now."""


class NotReady(AtCapacity):
    """The service is there but accepts nothing yet: it is starting, or its gateway can't reach it.  The fallback is
    used in the same attempt."""


class ProviderDown(Postponed):
    """Wrong key, empty account, service away: every job would fail.  Opens the circuit breaker; tasks stay
    pending."""

    code = "provider_down"
    waits_for = "provider_down"
    usual_wait_seconds = 60.0


class Unreachable(ProviderDown):
    """The request was certainly not sent: the connection was refused, the name has no address, TLS failed.  The service
    may be back soon, so it is tried again soon."""

    usual_wait_seconds = 2.0


class Provider(Protocol):
    """may_bill_twice: whether a job whose outcome is unknown may simply be sent again; the settings decide.

    Attributes an adapter may have:
    paid = True: before `submit` is called, our evidence of the request is stored, and the provider's limits are kept.
      Only such an adapter may return `Accepted`.
    pictures_per_request = n: `submit` is called once for every n pictures of an order; without it, once for all.
    hands_in = True: `submit` returns `Accepted` within seconds.  It is then not broken off when its task is cancelled
      meanwhile: without the id that it brings, the remote job could be neither cancelled nor found again.
    It may also be one that `ReadsReports`, and one that `LooksUp`.
    """

    may_bill_twice: bool

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        """Do the job or submit it; progress may be reported at any rate.  Raises ProviderError."""
        ...

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        """The state of the remote job; when it is done, its pictures as files in `job.folder`.

        Raises ProviderError if the state is unknown now: after Transient, Postponed and UnknownOutcome the job is
        polled again later, uncounted; any other class ends the remote job like a `Failed`.  If the result of a finished
        job can't be fetched now, raise Transient: the job is never submitted again for this.
        """
        ...

    async def cancel(self, remote: Accepted) -> bool:
        """Ask the service to stop; True if the job is over or unknown there, or if the service can't stop jobs; False
        to be called again later.  Raises ProviderError if the result is unknown."""
        ...

    async def close(self) -> None:
        """Free the adapter's resources."""
        ...


@runtime_checkable
class ReadsReports(Protocol):
    """A provider whose service reports to `Job.callback_url`."""

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        """The content of a report, with pictures fetched as by `poll`.  Running for a report that is not decisive; with
        poll_after_seconds=0 for one that only asks for a poll: then `poll` is called at once.

        Raises NotGenuine, and ProviderErrors as `poll` does; an Unreadable report is dropped.
        """
        ...


@runtime_checkable
class LooksUp(Protocol):
    """A provider whose service can look up a request by our reference."""

    async def look_up(self, job: Job) -> Accepted | None:
        """The remote job of `job.reference`; None if the service does not know it: then the same pictures are ordered
        again only if the provider's `may_bill_twice` allows it.

        Called before that, if the first request was not answered.  Raises ProviderError if the result is unknown.
        """
        ...
