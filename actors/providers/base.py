"""What every AI service's adapter is to us: a job goes in; a result, a promise or an error with a class comes
out.

The error's class decides what follows (`supervisor.core.rescue` draws the verdict); its `code` is what the user
sees (`error.code`, web/openapi/schemas.py), its text a sentence for them.  Pure.

The life of a remote job, and who does what in it:

1. Our evidence is stored, then `submit` is called.  It may come back with the pictures (`Done`), or with the
   service's word that it has the job: `Accepted`.  That is stored as it is, whoever holds the task by then.
2. The task waits, and no process holds anything for it.  When its poll is due, or the service has reported to
   `Job.callback_url`, any worker is given the stored `Accepted` and calls `parse_callback` for each report, then
   `poll` unless a report has settled it.  It may be another process than the one that submitted, on another host, after
   any number of crashes: what an adapter needs for polling must be in `Accepted.details`, nothing in its own memory.
3. `Running` puts the task back to wait and shows its progress; `Done` and `Failed` end the remote job.
4. When the task was cancelled or has ended otherwise, `cancel` is called until it returns True.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from supervisor.remote.amounts import amount_of
from supervisor.remote.unclear_answers import UNKNOWN_SECONDS

if TYPE_CHECKING:
    from actors.files.scratch import Scratch

T = TypeVar("T")

Progress = Callable[[int, str], None]  # (percent 0 … 99, stage)


@dataclass
class Bill:
    """What a service says a request has cost, as it wrote it; None while it has said nothing."""

    amount: str | None = None


@dataclass(frozen=True)
class Job:
    """One attempt's order.  inputs: local files, in the order of params["images"].  pictures: which n of 0 …
    count−1 to make; picture n must not depend on which others are made.  scratch: space for this attempt alone,
    of which an adapter sees `folder`.  own_process: do it apart from other jobs, since workers have died under it.
    input_keys: where each input lies in the file store, None for one that was given by its address.
    outputs: what the type says comes back, of images, videos, audio, files and json.
    reference: the unique name of this request in our evidence of it, empty for a provider that is not paid.
    callback_url: where the service may report on this request, empty when no address is known under which it could
    reach us.

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
        """Say what the service says this request has cost, in the `cost_unit` of its settings; its last word holds.
        Nothing for None, and for what is no number from 0."""
        text = amount_of(amount)
        if text is not None:
            self.bill.amount = text

    @property
    def folder(self) -> Path:
        """Where this attempt may write; it is made when it is first asked for, and goes with the attempt."""
        return self.scratch.folder

    async def when_there_is_room(self, write: Callable[[], Awaitable[T]], /) -> T:
        """Write through this what was sent: while the disk is full the attempt waits, and what was paid for is kept."""
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
    """A finished film, sound or other file: a local file.  name: as its user is to save it; what it is is told from its
    bytes.  width, height in pixels and duration_seconds where they are known."""

    path: Path
    name: str = ""
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True)
class Done:
    """The work is over.  images: as many of the ordered ones as were made, in any order; the others are refunded, and
    the work says how many there are.  files: whatever else was made, at most 100.  data: JSON of at most 256 KiB, None
    for none.  A service that made nothing has failed: raise or return an error.

    without_pictures: the type makes none, so that none are missing; where there are files or data and no picture, that
    goes without saying."""

    images: tuple[MadeImage, ...] = ()
    files: tuple[MadeFile, ...] = ()
    data: Any = None
    without_pictures: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was made where something was ordered."""
        return not (self.images or self.files or self.data is not None or self.without_pictures)


@dataclass(frozen=True)
class Accepted:
    """The service has a remote job and we only wait.

    remote_id: the service's name for it, 1-500 characters.  poll_after_seconds: when the service wants to be asked
    first.  details: what `poll`, `cancel` and `parse_callback` need besides the id (addresses the service gave, a
    client's name), JSON-safe, at most 64 KiB, no secret.  reports: the service was given `Job.callback_url` and will
    tell when the job is over, so it is asked seldom, in case a report was lost.  An adapter gets back what it gave,
    `remote_id` and `details`; both are empty when a report came and the worker that submitted died before it could
    store them."""

    remote_id: str
    poll_after_seconds: float = 5.0
    details: Mapping[str, Any] = field(default_factory=dict)
    reports: bool = False


@dataclass(frozen=True)
class Running:
    """The remote job is under way.

    progress: percent, or None if the service does not say.  poll_after_seconds: how soon the service may be asked
    again; a job that has waited for long is asked less often than that (`supervisor.remote.poll_backoff`).  was_asked:
    False from a `poll` whose service can't be asked, since it tells by itself."""

    progress: int | None = None
    stage: str | None = None
    poll_after_seconds: float = 5.0
    was_asked: bool = True


@dataclass(frozen=True)
class Failed:
    """The remote job is over without a result.  error: its class decides what follows, as if it were raised by
    `submit`: a Transient or Postponed one is submitted anew while attempts are left.  A Lost one is doubted first."""

    error: ProviderError


@dataclass(frozen=True)
class Report:
    """What a service sent to `Job.callback_url`: stored as it came, not yet believed.

    headers: names in small letters; those a signature may be made of (`webhook-…`, `x-…`, `content-type`, `signature…`,
    `digest…`).  body: at most 1 MiB; of one that was larger nothing is kept (`is_too_large`)."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def is_too_large(self) -> bool:
        """Whether it was sent, and was too large to be kept: the service will send nothing else."""
        return self.headers.get("x-darkroom-report") == "too large"  # `store.remote.remote_reports.TOO_LARGE`


class NotGenuine(Exception):
    """A report that the service did not send, or that says nothing of this job: it is dropped, and the job goes on."""


class ProviderError(Exception):
    """Something an AI service did or did not do.  code: an `error.code` (web/openapi/schemas.py).
    retryable: whether another attempt may help, as the class says unless told otherwise.  detail: what the service said
    of it as a whole, without secrets and links, for operators alone; at most MOST_DETAIL_CHARACTERS."""

    code = "provider_error"
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = ""
        self.code = code or type(self).code
        self.retryable = type(self).retryable if retryable is None else retryable


class Transient(ProviderError):
    """A hiccup: the same request may well succeed later.  Costs one of the attempts."""

    retryable = True


class InvalidInput(ProviderError):
    """The order itself is at fault and would fail again.  Fail and refund."""

    code = "invalid_input"


class ContentRejected(ProviderError):
    """The service refuses this content by its rules.  Fail and refund."""

    code = "content_rejected"


class Unreadable(Transient):
    """A good answer about a remote job that nobody can make sense of.  Asked again, at no cost; three times running it
    ends the job with these words, and nothing is submitted for it again."""


class ResultGone(Transient):
    """The job is done, but its service says that there is no such result.  Asked again, at no cost, until the job's
    time is over; never a reason to submit it again."""


class Lost(ProviderError):
    """The service does not know the remote job.  It is believed when it says so three times running, over
    `sure_after_seconds` at least: then submit again where the provider's `may_bill_twice` says so, else ask on until
    the job's time is over."""

    code = "remote_lost"
    retryable = True

    def __init__(self, message: str, *, sure_after_seconds: float = UNKNOWN_SECONDS) -> None:
        super().__init__(message)
        self.sure_after_seconds = sure_after_seconds


class UnknownOutcome(ProviderError):
    """The request left and no answer came: it may have been carried out and billed.
    Again only where the provider's `may_bill_twice` says so."""

    code = "unknown_outcome"


class CutOff(UnknownOutcome):
    """The connection ended after the request had left, and before its answer: its service, or the way to it, has gone
    away in the middle of it."""


class Ambiguous(UnknownOutcome):
    """The answer is that something went wrong, and leaves open whether the request was carried out: a 500, or a gateway
    that lost the service's answer.  A hiccup where the provider's `may_bill_twice` says so, else an unknown outcome."""


class ResultLost(UnknownOutcome):
    """The service has done the job, and perhaps billed it, but its pictures can't be had or are none.
    A remote job that ends so is not submitted again."""

    code = "provider_error"


class Postponed(ProviderError):
    """Nothing was accepted and nothing is wrong with the order: wait, and it costs no attempt.

    waits_for: why, in a word for the task's history.
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
    """The service is there and takes nothing yet: it is starting, or the gateway before it has nobody behind it.  The
    same attempt asks the fallback."""


class ProviderDown(Postponed):
    """Wrong key, empty account, service away: every job would fail.  Opens the circuit breaker; tasks stay
    pending."""

    code = "provider_down"
    waits_for = "provider_down"
    usual_wait_seconds = 60.0


class Unreachable(ProviderDown):
    """The request certainly never left: the connection was refused, the name has no address, TLS failed.  The service
    may be back in a moment, so it is tried again soon."""

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
        """Do the job or hand it in; progress may be reported as often as one likes.  Raises ProviderError."""
        ...

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        """How the remote job is doing; when it is done, its pictures as files in `job.folder`.

        Raises ProviderError when that can't be learned now: Transient, Postponed and UnknownOutcome ones are asked
        again later, at no cost; any other class ends the remote job like a `Failed`.  That the result of a job that
        is done can't be had just now is Transient: it is never a reason to submit it again.
        """
        ...

    async def cancel(self, remote: Accepted) -> bool:
        """Ask the service to stop; True once the job is over, unknown there, or the service can't stop jobs; False to
        be called again later.  Raises ProviderError when that can't be learned."""
        ...

    async def close(self) -> None:
        """Free what the adapter holds."""
        ...


@runtime_checkable
class ReadsReports(Protocol):
    """A provider whose service reports to `Job.callback_url`."""

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        """What a report says, with pictures fetched as by `poll`.  Running for one that settles nothing; with
        poll_after_seconds=0, for one that is only a reason to ask: then `poll` is called at once.

        Raises NotGenuine, and ProviderErrors as `poll` does; one that is Unreadable is dropped.
        """
        ...


@runtime_checkable
class LooksUp(Protocol):
    """A provider whose service can tell whether it knows a request by our own name for it."""

    async def look_up(self, job: Job) -> Accepted | None:
        """The remote job of `job.reference`; None if the service does not know it: then the same pictures are ordered
        again only where the provider's `may_bill_twice` says so.

        Called before that, when nobody heard the answer to the first request.
        Raises ProviderError when that can't be learned.
        """
        ...
