"""What an attempt is for: fetch the photos, have the missing pictures made, store them.

Pictures that an earlier attempt of the same charge has stored are found and not made again.  What a provider is paid
for is written down before it is asked (`actors.paid_requests`), and counts as answered only when its pictures are
stored, in the transaction that says where they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from actors.inputs import fetch_inputs, input_keys
from actors.paid_requests import PaidRequest, begin_paid_request
from actors.progress import ProgressReport
from actors.providers import open_provider
from actors.providers.base import Done, Job, MadeImage, Progress, Provider, ProviderError, Transient
from actors.worker import Running, Why, Worker
from supervisor.database import Transaction
from supervisor.store import claims, results, tallies
from supervisor.store.claims import Claim
from supervisor.store.results import ResultFile
from supervisor.store.rows import encoded

Step = Callable[[Transaction], None]
FETCHING_PERCENT = 2


async def make_pictures(worker: Worker, running: Running, claim: Claim) -> Step:
    """Have everything made that is missing; the step that completes the task."""
    params_hash = hashlib.sha256(encoded(claim.params).encode()).hexdigest()[:16]

    def already_made(tx: Transaction) -> list[ResultFile]:
        return results.found(tx, claim.task_id, claim.charge, params_hash)

    found = (
        {file.n: file for file in await worker.database.read_async(already_made)} if claim.attempt > 1 else {}
    )
    missing = [n for n in range(claim.count) if n not in found]
    short = 0
    if missing:
        # Made here, not in a thread: it takes microseconds, a thread's turn takes a tenth of a start.
        folder = Path(tempfile.mkdtemp(dir=worker.scratch))
        try:
            making = _Making(worker, running, claim, params_hash, folder)
            found |= await making.make(missing)
            if not found and not making.without_pictures:
                raise Transient("The AI service returned no picture.")
            short = 0 if making.without_pictures else claim.count - len(found)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
    files = [found[n] for n in sorted(found)]

    def completed(tx: Transaction) -> None:
        images = [{"key": file.key, "width": file.width, "height": file.height} for file in files]
        claims.complete(tx, claim.task_id, claim.lease, images, missing=short)

    return completed


class _Making:
    """The requests of one attempt, one after the other."""

    def __init__(
        self, worker: Worker, running: Running, claim: Claim, params_hash: str, folder: Path
    ) -> None:
        self._worker, self._running, self._claim = worker, running, claim
        self._params_hash, self._folder = params_hash, folder
        self._task_type = worker.settings.tasks[claim.type]
        self.without_pictures = False

    async def make(self, missing: Sequence[int]) -> dict[int, ResultFile]:
        """{n: its file} of those that could be made."""
        worker, claim = self._worker, self._claim
        provider = self._provider()
        progress = ProgressReport(worker.database, claim.task_id, claim.lease)
        found: dict[int, ResultFile] = {}
        try:
            progress.report(FETCHING_PERCENT, "fetching the photos")
            inputs = await fetch_inputs(worker, claim, self._folder)
            parts = list(_parts(missing, getattr(provider, "pictures_per_request", 0)))
            for number, part in enumerate(parts):
                request = await self._write_down(provider, number)
                job = self._job(inputs, part, request)
                done = await self._ask(provider, job, _scaled(progress.report, number, len(parts)), request)
                found |= await self._store(done, request)
                self.without_pictures = done.without_pictures
                if self._running.stops_when_answered and number + 1 < len(parts):
                    self._running.cancel(Why.DRAIN)
                    await asyncio.sleep(0)  # where the cancel strikes
        finally:
            progress.close()
        return found

    def _provider(self) -> Provider:
        name = self._task_type.provider
        provider = self._worker.providers.get(name)
        if provider is None:
            provider = self._worker.providers[name] = open_provider(name, self._worker)
        return provider

    async def _write_down(self, provider: Provider, part: int) -> PaidRequest | None:
        """The evidence of a request that is about to leave; None where nobody is paid."""
        if not getattr(provider, "paid", False):
            return None
        return await begin_paid_request(
            self._worker, self._running, self._claim, self._task_type.provider, part
        )

    def _job(self, inputs: tuple[Path, ...], pictures: tuple[int, ...], request: PaidRequest | None) -> Job:
        claim = self._claim
        return Job(
            task_id=claim.task_id,
            type=claim.type,
            params=claim.params,
            inputs=inputs,
            pictures=pictures,
            count=claim.count,
            seed=_seed(claim),
            folder=self._folder,
            ai_timeout_seconds=self._task_type.ai_timeout_seconds,
            own_process=claim.budget.deaths > 0,
            input_keys=input_keys(claim),
            reference=request.reference if request else "",
        )

    async def _ask(
        self, provider: Provider, job: Job, progress: Progress, request: PaidRequest | None
    ) -> Done:
        """One request; the provider keeps to the AI time-out, and the actor's limit is above it."""
        started = asyncio.get_running_loop().time()
        outcome = "error"
        try:
            done = await provider.submit(job, progress)
            assert isinstance(done, Done)
            outcome = "done"
            return done
        except BaseException as error:
            if isinstance(error, ProviderError):
                outcome = error.code
            if request is not None:
                request.broke_off(error)
            raise
        finally:
            seconds = asyncio.get_running_loop().time() - started
            name, result = self._task_type.provider, outcome
            self._worker.database.write(
                lambda tx: tallies.observe(
                    tx, "darkroom_ai_call_seconds", seconds, provider=name, outcome=result
                )
            )

    async def _store(self, done: Done, request: PaidRequest | None) -> dict[int, ResultFile]:
        """Make pictures durable, then say so, and that the request is answered; the next attempt finds them."""
        claim = self._claim

        def say_so(tx: Transaction) -> None:
            for file in files:
                results.add(tx, claim.task_id, claim.charge, self._params_hash, file)
            if request is not None:
                request.done(tx)

        try:
            files = [await asyncio.to_thread(self._put, picture) for picture in done.images]
            if files or request is not None:
                await self._worker.write(say_so)
        except BaseException as error:
            if request is not None:
                request.broke_off(error)
            raise
        if request is not None:
            request.is_unanswered = False
        return {file.n: file for file in files}

    def _put(self, picture: MadeImage) -> ResultFile:
        claim = self._claim
        key = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{picture.n}{picture.path.suffix}"
        data = picture.path.read_bytes()
        self._worker.files.put(key, data)
        return ResultFile(picture.n, key, hashlib.sha256(data).hexdigest(), picture.width, picture.height)


def _parts(missing: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """The pictures of each request.  size: at most so many, 0 = all in one."""
    step = size or len(missing)
    for start in range(0, len(missing), step):
        yield tuple(missing[start : start + step])


def _scaled(report: Progress, number: int, parts: int) -> Progress:
    """A report of one of several requests as one of the whole attempt."""
    if parts == 1:
        return report
    return lambda percent, stage: report((100 * number + percent) // parts, stage)


def _seed(claim: Claim) -> int:
    """The same for every attempt of a charge, so that a picture that is made again is the same picture."""
    return int.from_bytes(hashlib.sha256(f"{claim.task_id}/{claim.charge}".encode()).digest()[:6], "big")
