"""The job for an adapter, made from the row by the worker that holds the task.

The seed and the reference do not depend on the process or the attempt, so a polled job is the same as the submitted
one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.attempts.inputs import input_keys
from actors.attempts.steps import of_picture
from actors.providers.base import Job, Provider, ReadsReports
from actors.registry.adapters import open_provider
from supervisor.security.secret import read_or_make_secret
from supervisor.steps.lanes import terms_of
from supervisor.store.sql.rows import encoded

if TYPE_CHECKING:
    from actors.files.scratch import Scratch
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim
    from supervisor.store.remote.remote_jobs import RemoteJob


def provider_of(worker: Worker, name: str) -> Provider:
    """The provider of this name, opened once a process.  Raises SettingFault."""
    provider = worker.providers.get(name)
    if provider is None:
        provider = worker.providers[name] = open_provider(name, worker)
    return provider


def providers_for(worker: Worker, claim: Claim) -> tuple[str, ...]:
    """Names of the providers for a task, in order: the one it names, or the chain of its type or step."""
    named = None if claim.lane else claim.params.get("provider")
    return (named,) if isinstance(named, str) else terms_of(worker.settings, claim.type, claim.lane).chain


def job_of(
    worker: Worker,
    claim: Claim,
    name: str,
    *,
    pictures: tuple[int, ...],
    scratch: Scratch,
    inputs: tuple[Path, ...] = (),
    reference: str = "",
) -> Job:
    """The job for the provider of this name; without inputs if it is only polled."""
    return _JobOfARow(
        task_id=claim.task_id,
        type=claim.type,
        params=_filled(worker, claim),
        inputs=inputs,
        pictures=pictures,
        count=claim.count,
        seed=_seed(claim),
        scratch=scratch,
        ai_timeout_seconds=terms_of(worker.settings, claim.type, claim.lane).ai_timeout_seconds,
        own_process=claim.budget.deaths > 0,
        input_keys=input_keys(claim) if inputs else (),
        reference=reference,
        outputs=tuple(
            claim.fixed[claim.step]["outputs"] if claim.fixed else worker.settings.tasks[claim.type].outputs
        ),
        make_callback_url=lambda: callback_url(worker, name, reference) if reference else "",
    )


def job_of_request(worker: Worker, claim: Claim, request: RemoteJob, scratch: Scratch) -> Job:
    """The job of a request that was sent before, to be looked up or polled: without inputs."""
    return job_of(
        worker,
        of_picture(claim, min(request.pictures, default=0)),
        request.provider,
        pictures=request.pictures,
        scratch=scratch,
        reference=request.reference,
    )


@dataclasses.dataclass(frozen=True)
class _JobOfARow(Job):
    """A job whose `callback_url` is made when it is read first: it costs a signature and two files, and most polls need
    none."""

    make_callback_url: Callable[[], str] = dataclasses.field(default=str, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.__dict__["callback_url"]:
            del self.__dict__["callback_url"]  # so that the property below answers

    @functools.cached_property  # type: ignore[misc]  # it stands behind the attribute, and not in its place
    def callback_url(self) -> str:
        return self.make_callback_url()


def _filled(worker: Worker, claim: Claim) -> dict[str, Any]:
    """The params with the defaults of `parameters`: filled in at reading, so the row keeps the original order."""
    if claim.lane:
        return claim.params
    given = claim.params.get("parameters") or {}
    filled = worker.settings.tasks[claim.type].filled(given)
    return {**claim.params, "parameters": filled} if filled else claim.params


def callback_url(worker: Worker, name: str, reference: str) -> str:
    """The address for the service's report on a request; empty if the service does not report or can't reach us."""
    settings = worker.settings
    if not isinstance(provider_of(worker, name), ReadsReports):
        return ""
    base = settings.url
    if not base and settings.providers[name].allow_private_addresses:
        base = _address_of_up(settings.data_dir)  # useful only for a service on this host
    if not base:
        return ""
    from supervisor.security.tokens import (  # several megabytes, not needed without callbacks
        Callback,
        make_callback_token,
    )

    token = make_callback_token(read_or_make_secret(settings), Callback(reference))
    return f"{base.rstrip('/')}/v1/callbacks/{token}"


def _address_of_up(data_dir: Path) -> str:
    try:
        return (data_dir / "url").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def hash_of_params(claim: Claim) -> str:
    """A hash of the params: other params make other pictures."""
    return claim.params_hash or hashlib.sha256(encoded(claim.params).encode()).hexdigest()[:16]


def _seed(claim: Claim) -> int:
    """Equal for every attempt of a charge, so that a repeated picture is the same picture."""
    return int.from_bytes(hashlib.sha256(f"{claim.task_id}/{claim.charge}".encode()).digest()[:6], "big")
