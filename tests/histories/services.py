"""AI services that answer anything, and the record of what really happened there; only the model may read it.

A service draws the fate of each request when it is sent, and records the truth: whether it was carried out (and so
billed), when its job ended, when it was asked and answered. The adapter, called by the product, reports as much of it
as the simulated network lets through.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.providers.base import (
    Accepted,
    AtCapacity,
    ContentRejected,
    Done,
    Failed,
    InvalidInput,
    Job,
    Lost,
    MadeImage,
    NotGenuine,
    ProviderDown,
    RateLimited,
    Report,
    Running,
    Transient,
    UnknownOutcome,
)
from supervisor.store.remote import remote_reports
from tests.histories.virtual_loop import Process, current_process

if TYPE_CHECKING:
    from tests.histories.world import World

LONG_SECONDS = 4000.0


@dataclasses.dataclass
class Order:
    """One request that reached a service and was carried out.

    ends_at: when its job is over (monotonic).  end: 'done', 'failed', 'refused' (a job that failed by itself and is
    not billed), 'forgotten'.  told: the service has answered us that the job failed, so it may be submitted again.
    """

    service: str
    reference: str
    pictures: tuple[int, ...]
    since: float
    ends_at: float
    end: str
    made: tuple[int, ...]
    is_over: bool = False
    told: bool = False
    cancelled: bool = False

    @property
    def task_id(self) -> str:
        return self.reference.split(".")[0]

    @property
    def charge(self) -> int:
        return int(self.reference.split(".")[1])

    @property
    def step(self) -> int:
        return step_of(self.reference)


def step_of(reference: str) -> int:
    """The step that a request is for."""
    return int(reference.split(".")[3])


@dataclasses.dataclass
class Question:
    """One poll.  answered: whether the service's answer came back."""

    reference: str
    at: float
    answered: bool = False


class Service:
    """A provider of the settings, seen from the other side of the line."""

    def __init__(self, world: World, name: str, *, remote: bool, reports: bool, one_by_one: bool) -> None:
        self.world, self.name = world, name
        self.remote, self.reports, self.one_by_one = remote, reports, one_by_one
        self.orders: dict[str, Order] = {}
        self.questions: list[Question] = []
        self.in_flight: dict[str, tuple[float, Process | None]] = {}
        self.away_until = 0.0
        self.twice: list[tuple[Order, Order]] = []

    @property
    def is_away(self) -> bool:
        return self.world.loop.time() < self.away_until

    def carry_out(self, job: Job) -> Order:
        """The request has arrived."""
        draw, now = self.world.draw, self.world.loop.time()
        seconds = draw.choice((0.0, 0.5, 3.0, 20.0, 60.0, 200.0)) * draw.random()
        if (
            self.world.is_calm
        ):  # it answers in time, or each probe of an open breaker may fail, and double the wait
            seconds = min(seconds, job.ai_timeout_seconds / 2)
        end = "done" if self.world.is_calm else draw.choices(
            ("done", "failed", "refused", "forgotten", "endless"), (70, 8, 8, 4, 4)
        )[0]  # fmt: skip
        if end == "endless":
            end, seconds = "done", LONG_SECONDS
        made = tuple(job.pictures) if draw.random() < 0.85 or len(job.pictures) < 2 else job.pictures[:-1]
        order = Order(self.name, job.reference, job.pictures, now, now + seconds, end, made)
        for earlier in self.orders.values():
            is_same = (earlier.task_id, earlier.charge, earlier.step) == (
                order.task_id, order.charge, order.step,
            )  # fmt: skip
            if is_same and set(earlier.pictures) & set(order.pictures) and not earlier.told:
                self.twice.append((earlier, order))
        self.orders[job.reference] = order
        self.world.note(f"{self.name} carries out {job.reference} pictures {list(job.pictures)}: {end}")
        return order

    def state_of(self, reference: str) -> str:
        """'unknown', 'running', or how it ended."""
        order = self.orders.get(reference)
        if order is None:
            return "unknown"
        if order.cancelled:
            return "cancelled"
        if self.world.loop.time() < order.ends_at and not self.world.is_calm:
            return "running"
        return "unknown" if order.end == "forgotten" else order.end


class Adapter:
    """What the product drives: `actors.providers.base.Provider`."""

    paid = True

    def __init__(self, service: Service, *, may_bill_twice: bool) -> None:
        self.service, self.may_bill_twice = service, may_bill_twice
        self.hands_in = service.remote
        if service.one_by_one:
            self.pictures_per_request = 1

    async def submit(self, job: Job, progress: Callable[[int, str], None]) -> Done | Accepted:
        service, world = self.service, self.service.world
        service.in_flight[job.reference] = (world.loop.time(), current_process.get())
        try:
            return await self._submit(job, progress)
        finally:
            service.in_flight.pop(job.reference, None)

    async def _submit(self, job: Job, progress: Callable[[int, str], None]) -> Done | Accepted:
        service, world = self.service, self.service.world
        self._check_inputs(job)
        progress(10, "asking")
        await world.line_delay()
        if service.is_away:
            raise Transient("The service can't be reached.")
        if not world.is_calm and world.chance(0.2):
            raise world.draw.choice(
                (
                    Transient("A hiccup."),
                    RateLimited("Too fast.", wait_seconds=world.draw.choice((1.0, 7.0, 200.0))),
                    AtCapacity("Full."),
                    InvalidInput("No."),
                    ContentRejected("No."),
                    ProviderDown("No money.", wait_seconds=10.0),
                )
            )
        lost_before, lost_after = (world.chance(0.03), world.chance(0.06))
        if lost_before:
            await asyncio.sleep(job.ai_timeout_seconds)
            raise UnknownOutcome("No answer in time.")
        order = service.carry_out(job)
        if lost_after:
            await asyncio.sleep(world.draw.choice((0.1, job.ai_timeout_seconds)))
            if service.reports:
                self._report_later(order)
            raise UnknownOutcome("No answer in time.") if world.draw.random() < 0.8 else RuntimeError("a bug")
        if service.remote:
            if service.reports:
                self._report_later(order)
            await world.line_delay()
            details = {"of": job.reference}
            return Accepted(f"job-{job.reference}", 5.0, details, reports=service.reports)
        seconds = min(order.ends_at - world.loop.time(), 2 * job.ai_timeout_seconds)
        for percent in (30, 60, 90):
            if world.loop.time() - order.since + seconds / 3 > job.ai_timeout_seconds:
                await asyncio.sleep(max(0.0, order.since + job.ai_timeout_seconds - world.loop.time()))
                raise UnknownOutcome("No answer in time.")
            await asyncio.sleep(max(0.0, seconds / 3))
            progress(percent, "painting")
        if order.end in ("done", "forgotten"):
            return _pictures(order, job)
        order.told = True
        raise Transient("It went wrong.") if order.end == "refused" else ContentRejected("No.")

    def _check_inputs(self, job: Job) -> None:
        """A step works on what the step before has made of this task, in any charge, and on nothing else."""
        step = step_of(job.reference)
        for path in job.inputs if step else ():
            reference, _ = path.read_text().split()
            if reference.split(".")[0] != job.task_id or step_of(reference) != step - 1:
                self.service.world.model.broken(f"{job.reference} was given the picture of {reference}")

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        service, world = self.service, self.service.world
        assert remote.remote_id == f"job-{job.reference}", "the job is another request's"
        question = Question(job.reference, world.loop.time())
        service.questions.append(question)
        world.note(f"{service.name} is asked about {job.reference}: {service.state_of(job.reference)}")
        await world.line_delay()
        if service.is_away or (not world.is_calm and world.chance(0.08)):
            raise Transient("The service can't be reached.")
        if not world.is_calm and world.chance(0.02):
            raise RateLimited("Too fast.", wait_seconds=world.draw.choice((5.0, 250.0)))
        question.answered = True
        state = service.state_of(job.reference)
        if state == "done" and not world.is_calm and world.chance(0.15):
            raise Transient("The result's address answers 503.")
        return self._answer(state, service.orders.get(job.reference), job)

    def _answer(self, state: str, order: Order | None, job: Job) -> Running | Done | Failed:
        world = self.service.world
        if state == "running" or order is None:
            return Running(
                progress=world.draw.randint(0, 100), poll_after_seconds=world.draw.choice((1, 5, 30))
            )
        if state == "done":
            order.is_over = True
            return _pictures(order, job)
        if state == "unknown":
            return Failed(Lost("There is no such job."))
        order.told = order.is_over = True
        retryable = state == "refused"
        return Failed(Transient("It went wrong.") if retryable else ContentRejected("No."))

    async def cancel(self, remote: Accepted) -> bool:
        service, world = self.service, self.service.world
        await world.line_delay()
        if service.is_away or (not world.is_calm and world.chance(0.2)):
            raise Transient("The service can't be reached.")
        if not world.is_calm and world.chance(0.1):
            return False
        order = service.orders.get(str(remote.details.get("of", "")))
        if order is not None:
            order.cancelled = True
        return True

    async def close(self) -> None:
        pass

    def _report_later(self, order: Order) -> None:
        """Webhooks of the service: late, doubled, or none."""
        world = self.service.world
        wait = max(0.0, order.ends_at - world.loop.time())
        for _ in range(world.draw.choice((0, 1, 1, 2))):
            late = world.draw.choice((0.0, 0.2, 5.0, 400.0)) * world.draw.random()
            world.loop.in_world(wait + late, self._report, order)

    def _report(self, order: Order) -> None:
        world = self.service.world
        if world.is_over or (world.web.is_dead):
            return
        state = self.service.state_of(order.reference)
        body = json.dumps({"of": order.reference, "state": state, "n": world.draw.randint(0, 3)}).encode()
        world.doors["web"].write(lambda tx: remote_reports.store(tx, order.reference, {}, body))


class ReportingAdapter(Adapter):
    """A service that calls back."""

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        said: dict[str, Any] = json.loads(report.body)
        if said["of"] != job.reference:
            raise NotGenuine("It is of another request.")
        if said["n"] == 0 or said["state"] in ("unknown", "cancelled"):
            return Running(poll_after_seconds=0)
        await self.service.world.line_delay()
        return self._answer(said["state"], self.service.orders.get(job.reference), job)


class LookingUpAdapter(Adapter):
    """A service that knows requests by our name for them."""

    async def look_up(self, job: Job) -> Accepted | None:
        await self.service.world.line_delay()
        if self.service.is_away:
            raise Transient("The service can't be reached.")
        if job.reference not in self.service.orders:
            _, sender = self.service.in_flight.get(job.reference, (0.0, None))
            if sender is not None and not sender.is_dead:
                raise Transient("It may still be on its way.")
            return None
        return Accepted(f"job-{job.reference}", 5.0, {"of": job.reference})


def _pictures(order: Order, job: Job) -> Done:
    """Files that say of which request they are."""
    made = []
    for n in order.made:
        path = job.folder / f"made-{n}.jpg"
        path.write_text(f"{order.reference} {n}")
        made.append(MadeImage(n, path, 4, 3))
    return Done(tuple(made))
