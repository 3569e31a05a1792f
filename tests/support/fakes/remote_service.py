"""An AI service with remote jobs, for tests and benches: it really listens, keeps its jobs, and counts its requests.

    POST   /jobs       {reference, task, pictures, callback_url} → 202 {id, will_report}
    GET    /jobs/{id}  → 200 {status: running|done|failed|cancelled, progress, pictures: {n: base64}, error}, or 404
    DELETE /jobs/{id}  → 200; 409 for one that is over
    GET    /stats      → 200 {submitted, twice, polls, cancelled, reported, running}
    POST   /end        {seconds} → 200; every job ends within so many seconds

A report is the same document as of GET, signed: `x-signature` is an HMAC of the body under SECRET.
It runs in a thread of a test, which may change its `plan` and its jobs, or as a program of its own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import itertools
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.pictures import one_pixel_png
from tests.support.servers.served_app import ServedApp

SECRET = b"between the service and its adapter"
REPORTERS = 50


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of a submission.

    status: of the answer; above 202 nothing is accepted.  seconds: until the job is over.  reports: whether it tells
    us then, at the address it was given.  made: how many of the pictures; None = all.  error: the job fails with this
    class.  answer_after_seconds: the job has begun long before its answer comes; cut: the answer never comes.
    """

    status: int = 202
    seconds: float = 0.0
    reports: bool = False
    made: int | None = None
    error: str = ""
    answer_after_seconds: float = 0.0
    cut: bool = False
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    document: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Job:
    """A remote job.  over_at: by the monotonic clock."""

    id: str
    order: dict[str, Any]
    plan: Plan
    over_at: float
    progress: int = 0
    is_cancelled: bool = False
    polls: int = 0

    @property
    def status(self) -> str:
        if self.is_cancelled:
            return "cancelled"
        if time.monotonic() < self.over_at:
            return "running"
        return "failed" if self.plan.error else "done"

    def document(self) -> dict[str, Any]:
        """What is told of it."""
        told: dict[str, Any] = {"id": self.id, "status": self.status, "progress": self.progress}
        if told["status"] == "done":
            pictures = self.order["pictures"]
            made = pictures if self.plan.made is None else pictures[: self.plan.made]
            told["pictures"] = {str(n): base64.b64encode(one_pixel_png(n)).decode() for n in made}
        if told["status"] == "failed":
            told["error"] = self.plan.error
        return told


def signed(document: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A report's body and headers."""
    body = json.dumps(document).encode()
    return body, {"x-signature": signature(body), "content-type": "application/json"}


def signature(body: bytes) -> str:
    """What only the service and its adapter can make."""
    return hmac.new(SECRET, body, hashlib.sha256).hexdigest()


def remote_type(service: RemoteService, name: str, **changes: str) -> dict[str, str]:
    """Settings of a task type, and of its provider of the same name.  changes: of the type."""
    return {
        f"PROVIDERS__{name}__KIND": "python",
        f"PROVIDERS__{name}__OPTIONS__class": "bench.remote_provider:RemoteProvider",
        f"PROVIDERS__{name}__OPTIONS__url": service.url,
        f"PROVIDERS__{name}__ALLOW_PRIVATE_ADDRESSES": "true",  # so it is given the address of `up`
        f"TASKS__{name}__PROVIDER": name,
        f"TASKS__{name}__AI_TIMEOUT_SECONDS": "10",
        f"TASKS__{name}__TIME_LIMIT_SECONDS": "60",
    } | {f"TASKS__{name}__{key}": value for key, value in changes.items()}


class RemoteService(ServedApp):
    """plan: decides on each submission, by its document.  Use it as a context."""

    def __init__(self, plan: Callable[[dict[str, Any]], Plan] | None = None) -> None:
        super().__init__()
        self.plan = plan or (lambda order: Plan())
        self.jobs: dict[str, Job] = {}
        self.orders: list[dict[str, Any]] = []  # every submission as it arrived
        self.cancels = 0
        self.cancel_status = 200
        self.reported = 0
        self.knows_nothing = False  # of any job: 404 for all
        self.poll_status = 200
        self._numbers = itertools.count(1)
        self._reports: asyncio.Queue[Job] = asyncio.Queue()

    # --- what a test asks ---

    def of(self, task_id: str) -> list[Job]:
        """The jobs of a task, in the order of their submission."""
        return [job for job in self.jobs.values() if job.order["task"] == task_id]

    def submissions(self, task_id: str) -> int:
        """How often a job was asked for, whatever came of it."""
        return sum(order["task"] == task_id for order in self.orders)

    def end(self, job: Job) -> None:
        """Its time is over; a job that reports does so now."""
        job.over_at = 0.0
        if job.plan.reports and job.order["callback_url"]:
            self.loop.call_soon_threadsafe(self._reports.put_nowait, job)

    def stats(self) -> dict[str, int]:
        """Counted since the start.  twice: submissions of pictures that were submitted before."""
        pictures = Counter(
            (order["task"], order["charge"], n) for order in self.orders for n in order["pictures"]
        )
        return {
            "submitted": len(self.orders),
            "twice": sum(count - 1 for count in pictures.values()),
            "polls": sum(job.polls for job in self.jobs.values()),
            "cancelled": sum(job.is_cancelled for job in self.jobs.values()),
            "reported": self.reported,
            "running": sum(job.status == "running" for job in self.jobs.values()),
        }

    # --- the server ---

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/jobs", self._submit)
        app.router.add_get("/jobs/{id}", self._show)
        app.router.add_delete("/jobs/{id}", self._cancel)
        app.router.add_get("/stats", self._stats)
        app.router.add_post("/end", self._end_all)
        return app

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=REPORTERS)) as session:
            reporters = [asyncio.create_task(self._report_for_ever(session)) for _ in range(REPORTERS)]
            yield
            for each in reporters:
                each.cancel()

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        order = await request.json()
        self.orders.append(order)
        plan = self.plan(order)
        if plan.status != 202:
            return web.json_response(plan.document, status=plan.status, headers=plan.headers)
        job = Job(f"job-{next(self._numbers)}", order, plan, time.monotonic() + plan.seconds)
        self.jobs[job.id] = job
        if plan.reports and order["callback_url"]:
            asyncio.get_running_loop().call_later(plan.seconds, self._reports.put_nowait, job)
        await asyncio.sleep(plan.answer_after_seconds)
        if plan.cut:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": job.id, "will_report": plan.reports} | plan.document, status=202)

    async def _show(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None or self.knows_nothing:
            return web.json_response({}, status=404)
        job.polls += 1
        if self.poll_status != 200:
            return web.json_response({}, status=self.poll_status)
        return web.json_response(job.document())

    async def _cancel(self, request: web.Request) -> web.Response:
        self.cancels += 1
        job = self.jobs.get(request.match_info["id"])
        if self.cancel_status != 200 or job is None:
            return web.json_response({}, status=self.cancel_status if job else 404)
        if job.status != "running":
            return web.json_response({}, status=409)
        job.is_cancelled = True
        return web.json_response({})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _end_all(self, request: web.Request) -> web.Response:
        seconds = float((await request.json())["seconds"])
        now = time.monotonic()
        for job in list(self.jobs.values()):
            if job.status == "running":
                job.over_at = now + random.uniform(0, seconds)
                if job.plan.reports and job.order["callback_url"]:
                    asyncio.get_running_loop().call_at(job.over_at, self._reports.put_nowait, job)
        return web.json_response({})

    async def _report_for_ever(self, session: aiohttp.ClientSession) -> None:
        """As services do it: again after a while, until an answer is a success."""
        while True:
            job = await self._reports.get()
            body, headers = signed(job.document())
            for _ in range(20):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(job.order["callback_url"], data=body, headers=headers) as answer:
                        if answer.status == 200:
                            self.reported += 1
                            break
                await asyncio.sleep(0.5)


def main() -> None:
    """`python -m tests.support.fakes.remote_service LEAST MOST REPORTS`: jobs take so many seconds.

    Prints its address."""
    least, most = float(sys.argv[1]), float(sys.argv[2])
    share = float(sys.argv[3])  # of jobs that report by themselves

    def plan(order: dict[str, Any]) -> Plan:
        return Plan(seconds=random.uniform(least, most), reports=random.random() < share)

    with RemoteService(plan) as service:
        print(service.url, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
