"""The work of an attempt: fetch the photos, let providers make the missing pictures, and store them or hand off to a
service.

Pictures that an earlier attempt of the charge has stored are not made again, and pictures that a service works on are
not ordered again.  A paid request is recorded before it is sent (`actors.attempts.paid_requests`).  It counts as
answered only when its pictures are stored, in the transaction that inserts their rows, or when the service's id of its
remote job is stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from actors.attempts.inputs import StepLost, fetch_inputs
from actors.attempts.jobs import hash_of_params, job_of, provider_of, providers_for
from actors.attempts.outputs import store_pictures
from actors.attempts.paid_requests import PaidRequest, begin_paid_request
from actors.attempts.progress import ProgressReport
from actors.attempts.provider_call import ask
from actors.attempts.reconcile import look_up_unheard
from actors.attempts.record import Step, completed, handed_off
from actors.attempts.reported_cost import Spent, spent_on
from actors.attempts.steps import of_picture, shown_progress, shown_stage
from actors.attempts.wait_for_space import Room
from actors.files.scratch import Scratch, scratch_of
from actors.providers.base import (
    Accepted,
    Done,
    Job,
    NotReady,
    Postponed,
    Progress,
    Provider,
    ProviderDown,
    ProviderError,
    Transient,
    UnknownOutcome,
)
from actors.worker.worker import Running, Why, Worker
from supervisor.core.claim import Claim
from supervisor.database.interface.database import Transaction
from supervisor.remote.poll_backoff import next_poll_seconds
from supervisor.steps.lanes import attempt_seconds, terms_of
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import RemoteJob, reference_of
from supervisor.store.tasks import results
from supervisor.store.tasks.results import ResultFile
from supervisor.telemetry import tracing

FETCHING_PERCENT = 2
OUT_OF_THE_PICK_SECONDS = 2.0


async def make_pictures(worker: Worker, running: Running, claim: Claim) -> Step:
    """Make everything that is missing; the step that completes the task, or hands it off."""
    found, waiting, without = await _left_by_earlier_attempts(worker, claim)
    at_work = {n for job in waiting for n in job.pictures}
    there = results.together(found.values())
    known = {*found, *at_work, *there.replaced, *without}
    missing = [] if there.is_whole else [n for n in range(claim.count) if n not in known]
    making = _Making(worker, running, claim)
    if missing:
        name = f"{claim.task_id}-{claim.lease}"
        async with scratch_of(worker.scratch, name, making.room.when_there_is) as scratch:
            found |= await making.make(missing, scratch)
    if waiting or making.poll_in_seconds:
        return handed_off(
            claim,
            poll_in_seconds=0.0 if waiting else min(making.poll_in_seconds),
            remote_limit_seconds=remote_limit_seconds(worker, claim, waiting),
        )
    without |= making.without_pictures
    if not found and not without and making.refused:
        reasons = list(making.refused.values())
        raise next((reason for reason in reasons if isinstance(reason, StepLost)), reasons[0])
    if not found and not without:
        raise Transient("The AI service returned no picture.")
    return completed(claim, list(found.values()), without)


def remote_limit_seconds(worker: Worker, claim: Claim, waiting: Sequence[RemoteJob] = ()) -> float:
    """Seconds until remote jobs are overdue; for resumed ones, counted from their submission."""
    limit = terms_of(worker.settings, claim.type, claim.lane).remote_limit_seconds
    return max(1.0, limit - max((job.age_seconds for job in waiting), default=0.0))


async def _left_by_earlier_attempts(
    worker: Worker, claim: Claim
) -> tuple[dict[int, ResultFile], list[RemoteJob], frozenset[int]]:
    """{n: its file} of the existing pictures, the parts that services work on, and the numbers of the pictures whose
    requests were answered without any."""
    if claim.attempt == 1:
        return {}, [], frozenset()
    await look_up_unheard(worker, claim)

    def read(tx: Transaction) -> tuple[list[ResultFile], list[RemoteJob], frozenset[int]]:
        found = results.found(tx, claim.task_id, claim.charge, hash_of_params(claim))
        without = remote_jobs.done_without_pictures(tx, *claim.of_step)
        return found, remote_jobs.waiting(tx, [claim.of_step]), without

    found, waiting, without = await worker.database.read_async(read)
    return {file.n: file for file in found}, waiting, without


class _Making:
    """The requests of one attempt, one after the other.

    without_pictures: numbers of those whose requests make none.  poll_in_seconds: for each remote job, its first poll.
    refused: {n: why} of the pictures that a service has refused for good, of a step with one request for each."""

    def __init__(self, worker: Worker, running: Running, claim: Claim) -> None:
        self._worker, self._running, self._claim = worker, running, claim
        limit_seconds = attempt_seconds(worker.settings, claim.type, claim.lane)
        self._progress = ProgressReport(worker.database, claim.task_id, claim.lease)
        self.room = Room(worker, running, claim, limit_seconds=limit_seconds, waits=self._progress.waits)
        self._inputs: tuple[Path, ...] = ()
        self.without_pictures: set[int] = set()
        self.poll_in_seconds: list[float] = []
        self.refused: dict[int, ProviderError] = {}

    async def make(self, missing: Sequence[int], scratch: Scratch) -> dict[int, ResultFile]:
        """{n: its file} of the pictures that were made at once.  scratch: of this attempt."""
        worker, claim = self._worker, self._claim
        progress = self._progress
        try:
            said = self._said
            said(FETCHING_PERCENT, "fetching the photos")
            if not claim.each:
                self._inputs = await fetch_inputs(worker, claim, scratch)
            return await self._along_the_chain(missing, scratch, said)
        finally:
            progress.close()

    def _said(self, percent: int, stage: str) -> None:
        claim = self._claim
        self._progress.report(shown_progress(claim, percent), shown_stage(claim, stage))

    async def _along_the_chain(
        self, missing: Sequence[int], scratch: Scratch, progress: Progress
    ) -> dict[int, ResultFile]:
        """The first provider that is up makes them; a later one is used only while those before are down or
        starting."""
        worker, found = self._worker, dict[int, ResultFile]()
        names = providers_for(worker, self._claim)
        for place, name in enumerate(names):
            left = [n for n in missing if n not in found and n not in self.refused]
            try:
                await self._by_provider(name, place, left, scratch, progress, found)
            except (ProviderDown, NotReady) as down:
                if name != names[-1] and not self.poll_in_seconds:
                    continue
                if (
                    isinstance(down, NotReady)
                    or "provider" in self._claim.params
                    or not getattr(provider_of(worker, name), "paid", False)
                ):
                    raise
                # Its breaker is open now, so tasks of the type are not picked meanwhile.
                away = ProviderDown(str(down), wait_seconds=OUT_OF_THE_PICK_SECONDS)
                away.detail = down.detail
                raise away from down
            else:
                break
        return found

    async def _by_provider(
        self,
        name: str,
        place: int,
        missing: Sequence[int],
        scratch: Scratch,
        progress: Progress,
        found: dict[int, ResultFile],
    ) -> None:
        """Let one provider make them, with as many requests as needed.  found: is extended."""
        worker, claim = self._worker, self._claim
        provider = provider_of(worker, name)
        size = 1 if claim.each else getattr(provider, "pictures_per_request", 0)
        parts = list(_parts(missing, size))
        for number, part in enumerate(parts):
            try:
                await self._ask_for(name, provider, place, number, parts, scratch, progress, found)
            except ProviderError as error:
                # One of many that its service refuses for good does not end the others.
                if not claim.each or isinstance(error, UnknownOutcome | Postponed) or error.retryable:
                    raise
                self.refused[part[0]] = error
            if self._running.stops_when_answered and number + 1 < len(parts):
                self._running.cancel(Why.DRAIN)
                await asyncio.sleep(0)  # the place where a cancel arrives

    async def _ask_for(
        self,
        name: str,
        provider: Provider,
        place: int,
        number: int,
        parts: Sequence[tuple[int, ...]],
        scratch: Scratch,
        progress: Progress,
        found: dict[int, ResultFile],
    ) -> None:
        """One request, for the pictures of one part.  found: is extended."""
        worker, claim, part = self._worker, of_picture(self._claim, parts[number][0]), parts[number]
        if claim.each:
            self._inputs = await fetch_inputs(worker, claim, scratch)
        request: PaidRequest | None = None
        place_of_part = place * claim.count + number
        if getattr(provider, "paid", False):  # the evidence of a request that is about to leave
            request = await begin_paid_request(worker, self._running, claim, name, place_of_part, part)
        job = job_of(
            worker,
            claim,
            name,
            pictures=part,
            scratch=scratch,
            inputs=self._inputs,
            reference=request.reference if request else "",
        )
        known_as = reference_of(*claim.of_step, claim.lease, place_of_part)
        spent = spent_on(worker, claim, name, known_as, job.bill, lease=claim.lease)
        self._running.provider = name
        answer = await ask(worker, name, provider, job, _scaled(progress, number, len(parts)), request, spent)
        if isinstance(answer, Accepted):
            self.poll_in_seconds.append(
                next_poll_seconds(
                    answer.poll_after_seconds, 0.0, reports=answer.reports, chance=random.random()
                )
            )
        else:
            found |= await self._store(answer, request, job, spent)
            if answer.without_pictures:
                self.without_pictures.update(part)

    async def _store(
        self, done: Done, request: PaidRequest | None, job: Job, spent: Spent
    ) -> dict[int, ResultFile]:
        """Make pictures durable, then record them and the answer of the request, so that the next attempt finds
        them."""
        claim = self._claim
        params_hash = hash_of_params(claim)

        def say_so(tx: Transaction) -> None:
            for file in files:
                results.add(tx, claim.task_id, claim.charge, params_hash, file, step=claim.step)
            spent.note(tx)
            if request is not None:
                request.done(tx, without_pictures=done.without_pictures)

        try:
            with (
                tracing.span(
                    "store", task_id=claim.task_id, pictures=len(done.images), files=len(done.files)
                ),
                self.room.keeping(),
            ):
                files = await store_pictures(self._worker, claim, done, self.room, job=job)
                if files or request is not None or spent.is_known:
                    await self._worker.write(say_so, order_key=claim.task_id)
        except BaseException as error:
            if request is not None:
                request.broke_off(error)
            raise
        if request is not None:
            request.is_unanswered = False
        return {file.n: file for file in files}


def _parts(missing: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """The pictures of each request.  size: at most so many, 0 = all in one request."""
    step = size or len(missing)
    for start in range(0, len(missing), step):
        yield tuple(missing[start : start + step])


def _scaled(report: Progress, number: int, parts: int) -> Progress:
    """The progress of one of several requests as progress of the whole attempt."""
    if parts == 1:
        return report
    return lambda percent, stage: report((100 * number + percent) // parts, stage)
