"""Verdicts by the clock: nothing is failed unasked (CORRECTNESS 20, 40 and 41).

A task with an overdue remote job fails after its service has answered once since the job was found overdue. A task that
has expired fails after three polls. An attempt fails at its deadline only if it had its whole time, by a clock that
cannot be stepped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.histories.virtual_loop import FIRST_MOMENT, Process

if TYPE_CHECKING:
    from tests.histories.model import Model, Task

QUESTIONS = 3


class Verdicts:
    """Since when tasks have been overdue or held, by the monotonic clock."""

    def __init__(self, model: Model) -> None:
        self._model, self._world = model, model.world
        self._overdue: dict[str, float] = {}
        self._expired: dict[str, float] = {}
        self._begun: dict[tuple[str, int], float] = {}

    def watch(self, tasks: Sequence[Task]) -> None:
        """Look at the open tasks."""
        now, text = self._world.loop.time(), self._world.clock.text()
        overdue = {
            each.id
            for each in tasks
            if each.status == "ai_processing" and each.remote_deadline_at and each.remote_deadline_at <= text
        }
        self._overdue = {task_id: self._overdue.get(task_id, now) for task_id in overdue}
        expired = {each.id for each in tasks if each.expires_at and each.expires_at <= text}
        self._expired = {task_id: self._expired.get(task_id, now) for task_id in expired}
        for each in tasks:
            if each.status == "processing":
                self._begun.setdefault((each.id, each.lease), now)

    def judge(self, process: Process | None, before: Task, now: Task, where: str) -> None:
        """A task has failed."""
        by_worker = self._world.worker_of(process) is not None
        if now.code == "remote_lost" and not by_worker:
            since = self._overdue.get(now.id, self._world.loop.time())
            for reference, answers, _, done_for in self._waiting(before, since):
                if answers == 0:
                    self._model.broken(
                        f"failed as remote_lost though {reference} was not asked since it was overdue"
                        f" (its service had finished it {done_for:.0f} s before): {where} {self._asked(now.id)}"
                    )
        if now.code == "expired":
            since = self._expired.get(now.id, self._world.loop.time())
            # A service that gives no answer is asked so often that one failed question decides nothing; the last of the
            # questions comes after the limit (CORRECTNESS 40).
            ever = {reference: asked for reference, _, asked, _ in self._waiting(before, FIRST_MOMENT)}
            for reference, _, asked, done_for in self._waiting(before, since):
                if (asked == 0 or ever[reference] < QUESTIONS) and done_for > 0:
                    self._model.broken(
                        f"failed as expired though {reference} was asked {asked} times since, {ever[reference]} times"
                        f" in all (its service had finished it {done_for:.0f} s before): {where} {self._asked(now.id)}"
                    )
        if now.code in ("time_limit", "unknown_outcome"):
            self._judge_deadline(process, before, now, where)

    def judge_retry(self, process: Process | None, before: Task, now: Task, where: str) -> None:
        """A failure was counted, and it runs again."""
        self._judge_deadline(process, before, now, where)

    def _judge_deadline(self, process: Process | None, before: Task, now: Task, where: str) -> None:
        if self._world.worker_of(process) is not None or before.status != "processing":
            return
        begun = self._begun.get((before.id, before.lease), FIRST_MOMENT)
        ran = self._world.loop.time() - begun
        limit = self._world.settings.tasks[before.type].time_limit_seconds
        holder = next(
            (each for each in self._world.workers if each.is_up and each.worker.id == before.worker_id), None
        )
        if holder is None or holder.process.is_dead:
            return
        if max(holder.disturbed_at, self._world.disturbed_at) > begun:
            return
        states = self._world.rows("SELECT state FROM worker WHERE id = ?", before.worker_id)
        if states not in ([("live",)], [("draining",)]):
            return  # no heartbeat got through for too long, and it was given up
        if ran < limit:
            self._model.broken(
                f"{now.code or 'a failure'} after {ran:.0f} s of {limit:.0f} in a worker that lives: {where}"
            )

    def _asked(self, task_id: str) -> str:
        """What the product goes by."""
        names = (
            "asked_since",
            "asked_at",
            "answered_at",
            "questions",
            "remote_deadline_at",
            "expires_at",
            "well_since",
        )
        ((*values,),) = self._world.rows(
            f"SELECT {', '.join(names)} FROM task_queue JOIN dispatcher ON 1 = 1 WHERE task_queue.id = ?",
            task_id,
        )
        said = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        return f"({said}, now {self._world.clock.text()})"

    def _waiting(self, task: Task, since: float) -> list[tuple[str, int, int, float]]:
        """(reference, answers since, questions since, for how long it had been finished) of what the task waits for."""
        found = []
        for provider, reference in self._world.rows(
            """SELECT provider, reference FROM remote_job WHERE task_id = ? AND charge = ? AND step = ?
                AND state = 'waiting' AND remote_id IS NOT NULL""",
            task.id, task.charge, task.step,
        ):  # fmt: skip
            service = self._world.services[provider]
            asked = [each for each in service.questions if each.reference == reference and each.at >= since]
            order = service.orders.get(reference)
            is_done = order is not None and service.state_of(reference) == "done"
            done_for = self._world.loop.time() - order.ends_at if order is not None and is_done else 0.0
            found.append((reference, sum(each.answered for each in asked), len(asked), done_for))
        return found
