"""What every AI service's adapter is to us: a job goes in; a result, a promise or an error with a class comes
out.

The error's class decides what follows (`supervisor.rescue` draws the verdict); its `code` is what the user
sees (CONTRACT.md, error.code), its text a sentence for them.  Pure: standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Progress = Callable[[int, str], None]  # (percent 0 … 99, stage)


@dataclass(frozen=True)
class Job:
    """One attempt's order.  inputs: local files, in the order of params["images"].  pictures: which n of 0 …
    count−1 to make; picture n must not depend on which others are made.  folder: scratch space for this
    attempt alone. own_process: do it apart from other jobs, since workers have died under it.
    input_keys: where each input lies in the file store, None for one that was given by its address.
    reference: the unique name of this request in our evidence of it, empty for a provider that is not paid."""

    task_id: str
    type: str
    params: Mapping[str, Any]
    inputs: tuple[Path, ...]
    pictures: tuple[int, ...]
    count: int
    seed: int
    folder: Path
    ai_timeout_seconds: float
    own_process: bool = False
    input_keys: tuple[str | None, ...] = ()
    reference: str = ""


@dataclass(frozen=True)
class MadeImage:
    """A finished picture: n of 0 … count−1, a local file."""

    n: int
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Done:
    """The work is over.  images: as many of the ordered ones as were made; the others are refunded.

    without_pictures: the type makes none, so that none are missing."""

    images: tuple[MadeImage, ...]
    without_pictures: bool = False


@dataclass(frozen=True)
class Accepted:
    """The service has a remote job and we only wait.  details: what `poll` needs besides the id, JSON-safe."""

    remote_id: str
    poll_after_seconds: float = 5.0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """The remote job is under way.  progress: percent, or None if the service does not say."""

    progress: int | None = None
    stage: str | None = None
    poll_after_seconds: float = 5.0


@dataclass(frozen=True)
class Failed:
    """The remote job is over without a result."""

    error: ProviderError


class ProviderError(Exception):
    """Something an AI service did or did not do.  code: an error.code of CONTRACT.md.
    retryable: whether another attempt may help, as the class says unless told otherwise."""

    code = "provider_error"
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
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


class Lost(ProviderError):
    """The service no longer knows the remote job.  Submit again while attempts are left."""

    code = "remote_lost"
    retryable = True


class UnknownOutcome(ProviderError):
    """The request left and no answer came: it may have been carried out and billed.
    Again only where the provider's `may_bill_twice` says so."""

    code = "unknown_outcome"


class ResultLost(UnknownOutcome):
    """The service has done the job, and perhaps billed it, but its pictures can't be had or are none."""

    code = "provider_error"


class Postponed(ProviderError):
    """Nothing was accepted and nothing is wrong with the order: wait, and it costs no attempt."""

    retryable = True
    usual_wait_seconds = 5.0

    def __init__(self, message: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = self.usual_wait_seconds if wait_seconds is None else wait_seconds


class RateLimited(Postponed):
    """Too many requests; the service says for how long (`retry_after`)."""


class AtCapacity(Postponed):
    """No room for another job now."""


class ProviderDown(Postponed):
    """Wrong key, empty account, service away: every job would fail.  Opens the circuit breaker; tasks stay
    pending."""

    code = "provider_down"
    usual_wait_seconds = 60.0


class Provider(Protocol):
    """may_bill_twice: whether a job whose outcome is unknown may simply be sent again; the settings decide.

    Two more attributes an adapter may have:
    paid = True: before `submit` is called, our evidence of the request is stored, and the provider's limits are kept.
    pictures_per_request = n: `submit` is called once for every n pictures of an order; without it, once for all.
    """

    may_bill_twice: bool

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        """Do the job or hand it in.  Raises ProviderError."""
        ...

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        """How the remote job is doing.  Raises ProviderError when that can't be learned."""
        ...

    async def cancel(self, remote: Accepted) -> bool:
        """Ask the service to stop; True once the job is over or the service can't stop it."""
        ...

    async def close(self) -> None:
        """Free what the adapter holds."""
        ...
