"""One attempt at a task: claim, work, record.

A hint is only a hint: when the claim fails, somebody else has the task, or it is over, and that is no error.  Every
way an attempt can end (pictures, an error's class, a limit, a drain, a lost lease, a cancel) becomes a verdict of
`supervisor.rescue`, recorded under the lease; who has lost the lease records nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from actors.inputs import fetch_inputs
from actors.outcomes import Outcome, Postpone, after_error, after_time_limit
from actors.progress import ProgressReport
from actors.providers import open_provider
from actors.providers.base import Done, Job, MadeImage, ProviderError, Transient
from actors.worker import Running, Why, Worker
from supervisor import rescue
from supervisor.database import Transaction
from supervisor.faults import DatabaseBusy, Fault, LeaseLost, SettingFault
from supervisor.store import claims, results, tallies
from supervisor.store.claims import Claim
from supervisor.store.results import ResultFile
from supervisor.store.rows import encoded

log = structlog.get_logger(__name__)

Step = Callable[[Transaction], None]
FETCHING_PERCENT = 2


async def run_attempt(worker: Worker, type_: str, task_id: str, dispatch: int) -> None:
    """Run a task if it is still to be had; its outcome is in the row when this returns."""
    if worker.draining or not worker.may_start_requests():
        return  # the hint is sent again, to somebody who works
    running = Running(task_id)
    worker.running.add(running)
    try:
        try:
            claim = await _claim(worker, type_, task_id, dispatch)
        except DatabaseBusy as fault:
            log.warning("claim_failed", task=task_id, reason=str(fault))
            return  # the hint is sent again
        if claim is not None:
            running.lease = claim.lease
            await _run(worker, running, claim)
    finally:
        worker.running.discard(running)


async def _claim(worker: Worker, type_: str, task_id: str, dispatch: int) -> Claim | None:
    limit = worker.settings.tasks[type_].time_limit_seconds + worker.settings.stuck_grace_seconds
    return await worker.database.write_async(lambda tx: claims.claim(tx, task_id, dispatch, worker.id, limit))


async def _run(worker: Worker, running: Running, claim: Claim) -> None:
    """Work, then record; whatever ends the work is turned into what is to be recorded."""
    bound = log.bind(task=claim.task_id, lease=claim.lease, attempt=claim.attempt, worker=worker.id)
    bound.info("attempt_started", type=claim.type, waited_seconds=round(claim.wait_seconds, 4))
    running.work = asyncio.create_task(_work(worker, claim))
    try:
        step = await running.work
    except asyncio.CancelledError:
        step = _after_cancel(running, claim)
        if not running.work.done():  # the actor's own limit has struck, not our cancel
            running.work.cancel()
            await asyncio.wait([running.work])
    except Exception as error:  # noqa: BLE001  every error becomes the attempt's verdict
        step = _after_error(worker, claim, error, bound)
    await _record(worker, claim, step, bound)


async def _record(worker: Worker, claim: Claim, step: Step | None, bound: Any) -> None:
    if step is None:
        return
    try:
        await worker.write(step)
        bound.info("attempt_ended", outcome=step.__name__)
    except LeaseLost:
        bound.info("result_dropped", reason="the task has moved on")


async def _work(worker: Worker, claim: Claim) -> Step:
    """Fetch the inputs, make the missing pictures, store them; the step that completes the task."""
    params_hash = hashlib.sha256(encoded(claim.params).encode()).hexdigest()[:16]

    def already_made(tx: Transaction) -> list[ResultFile]:
        return results.found(tx, claim.task_id, claim.charge, params_hash)

    found = (
        {file.n: file for file in await worker.database.read_async(already_made)} if claim.attempt > 1 else {}
    )
    missing = tuple(n for n in range(claim.count) if n not in found)
    short = 0
    if missing:
        # Made here, not in a thread: it takes microseconds, a thread's turn takes a tenth of a start.
        folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
        try:
            done = await _make(worker, claim, missing, folder)
            for picture in done.images:
                found[picture.n] = await _store(worker, claim, params_hash, picture)
            if not found and not done.without_pictures:
                raise Transient("The AI service returned no picture.")
            short = 0 if done.without_pictures else claim.count - len(found)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
    files = [found[n] for n in sorted(found)]

    def completed(tx: Transaction) -> None:
        images = [{"key": file.key, "width": file.width, "height": file.height} for file in files]
        claims.complete(tx, claim.task_id, claim.lease, images, missing=short)

    return completed


async def _make(worker: Worker, claim: Claim, missing: tuple[int, ...], folder: Path) -> Done:
    """Ask the provider for the missing pictures; it keeps to the AI time-out, and the actor's limit is above it."""
    task_type = worker.settings.tasks[claim.type]
    provider = worker.providers.get(task_type.provider)
    if provider is None:
        provider = worker.providers[task_type.provider] = open_provider(task_type.provider, worker)
    progress = ProgressReport(worker.database, claim.task_id, claim.lease)
    progress.report(FETCHING_PERCENT, "fetching the photos")
    inputs = await fetch_inputs(worker, claim, folder)
    job = Job(
        task_id=claim.task_id,
        type=claim.type,
        params=claim.params,
        inputs=inputs,
        pictures=missing,
        count=claim.count,
        seed=_seed(claim),
        folder=folder,
        ai_timeout_seconds=task_type.ai_timeout_seconds,
        own_process=claim.budget.deaths > 0,
    )
    started = asyncio.get_running_loop().time()
    outcome = "error"
    try:
        done = await provider.submit(job, progress.report)
        assert isinstance(done, Done)
        outcome = "done"
        return done
    except ProviderError as error:
        outcome = error.code
        raise
    finally:
        progress.close()
        seconds = asyncio.get_running_loop().time() - started
        name, result = task_type.provider, outcome
        worker.database.write(
            lambda tx: tallies.observe(tx, "darkroom_ai_call_seconds", seconds, provider=name, outcome=result)
        )


async def _store(worker: Worker, claim: Claim, params_hash: str, picture: MadeImage) -> ResultFile:
    """Make one picture durable, then say so; the next attempt of this charge finds it."""
    key = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{picture.n}{picture.path.suffix}"

    def put() -> str:
        data = picture.path.read_bytes()
        worker.files.put(key, data)
        return hashlib.sha256(data).hexdigest()

    file = ResultFile(picture.n, key, await asyncio.to_thread(put), picture.width, picture.height)
    await worker.write(lambda tx: results.add(tx, claim.task_id, claim.charge, params_hash, file))
    return file


def _seed(claim: Claim) -> int:
    """The same for every attempt of a charge, so that a picture that is made again is the same picture."""
    return int.from_bytes(hashlib.sha256(f"{claim.task_id}/{claim.charge}".encode()).digest()[:6], "big")


def _after_cancel(running: Running, claim: Claim) -> Step | None:
    match running.cancelled:
        case Why.LEASE_LOST:
            return None
        case Why.DRAIN:

            def released(tx: Transaction) -> None:
                claims.release(tx, claim.task_id, claim.lease)

            return released
        case None:
            return _step_of(claim, after_time_limit(claim.budget, draw=random.random()))


def _after_error(worker: Worker, claim: Claim, error: Exception, bound: Any) -> Step:
    if isinstance(error, SettingFault):
        bound.error("provider_unusable", reason=str(error))
    elif isinstance(error, ProviderError | Fault):
        bound.info("attempt_failed", kind=type(error).__name__, reason=str(error))
    else:
        bound.error("attempt_broke", exc_info=error)
    provider = worker.settings.providers[worker.settings.tasks[claim.type].provider]
    return _step_of(
        claim, after_error(claim.budget, error, may_bill_twice=provider.may_bill_twice, draw=random.random())
    )


def _step_of(claim: Claim, outcome: Outcome) -> Step:
    """The step that records an outcome."""
    task_id, lease = claim.task_id, claim.lease
    match outcome:
        case Postpone(in_seconds=in_seconds):

            def postponed(tx: Transaction) -> None:
                claims.postpone(tx, task_id, lease, in_seconds)

            return postponed
        case rescue.RunAgain(in_seconds=in_seconds):

            def retried(tx: Transaction) -> None:
                claims.retry(tx, task_id, lease, in_seconds)

            return retried
        case rescue.GiveUp(code=code, message=message):

            def failed(tx: Transaction) -> None:
                claims.fail(tx, task_id, lease, code, message)

            return failed
