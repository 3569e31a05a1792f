"""Paid requests and remote jobs: one paid submission for each picture of a charge, and each result with its charge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.histories.services import step_of
from tests.histories.virtual_loop import FIRST_MOMENT

if TYPE_CHECKING:
    from tests.histories.model import Model

_OPEN = ("submitting", "waiting")


class Jobs:
    """What services really did, against what we have written down."""

    def __init__(self, model: Model) -> None:
        self._model, self._world = model, model.world
        self._newest = 0
        self._read: set[str] = set()

    def after(self) -> None:
        """New evidence keeps to the service's limit; no careful service was paid twice."""
        for job_id, provider, reference, step, at in self._world.rows(
            """SELECT remote_job.id, provider, reference, remote_job.step, task_queue.step FROM remote_job
                LEFT JOIN task_queue ON task_queue.id = task_id AND task_queue.charge = remote_job.charge
                WHERE remote_job.id > ? ORDER BY remote_job.id""",
            self._newest,
        ):
            self._newest = job_id
            if step != at or step != step_of(reference):
                self._model.broken(f"{reference} was asked for step {step}, and its task is at {at}")
            limit = self._world.settings.providers[provider].limits.concurrency
            if limit:
                ((number,),) = self._world.rows(
                    "SELECT count(*) FROM remote_job WHERE provider = ? AND state IN ('submitting','waiting')",
                    provider,
                )
                if number > limit:
                    self._model.broken(f"{provider} has {number} open jobs, its limit is {limit}")
        for name, service in self._world.services.items():
            if service.twice and name not in self._world.settings.providers_that_may_bill_twice:
                first, second = service.twice.pop()
                self._model.broken(
                    f"{name} was paid twice for pictures {sorted(set(first.pictures) & set(second.pictures))}: by"
                    f" {first.reference} at {first.since - FIRST_MOMENT:.3f} ({first.end}, cancelled"
                    f" {first.cancelled}) and again by {second.reference}"
                )

    def check_files(self) -> None:
        """Every stored and every shown picture was made for its charge."""
        stored = self._world.rows("SELECT task_id, charge, step, n, key FROM result_file")
        shown = [
            (task.id, task.charge, task.last_step, None, image["key"])
            for task in self._model.tasks.values()
            if task.status == "completed" and task.images is not None
            for image in self._images(task.images)
        ]
        for task_id, charge, step, n, key in [*stored, *shown]:
            if key in self._read:
                continue
            path: Path = self._world.folder / "files" / key
            if not path.exists():
                continue  # its work was deleted a moment ago
            self._read.add(key)
            reference, made = path.read_text().split()
            is_its = reference.startswith(f"{task_id}.{charge}.") and step_of(reference) == step
            if not is_its or (n is not None and int(made) != n):
                self._model.broken(
                    f"picture {n} of step {step} of charge {charge} of task {task_id} is picture {made} of request"
                    f" {reference}"
                )
        self._check_finished_steps()

    def _check_finished_steps(self) -> None:
        """What later steps of an open task need is there."""
        for task_id, step, images in self._world.rows(
            """SELECT task_step.task_id, task_step.step, task_step.images FROM task_step JOIN task_queue
                ON task_queue.id = task_step.task_id AND task_queue.charge = task_step.charge
                WHERE status IN ('pending','processing','ai_processing') AND task_step.step < task_queue.step"""
        ):
            for image in self._images(images):
                if not (self._world.folder / "files" / image["key"]).exists():
                    self._model.broken(
                        f"the picture {image['key']} of the finished step {step} of {task_id} is gone"
                    )

    def at_rest(self) -> None:
        """No job is left open, and each settled state is the real one."""
        for job_id, reference, provider, state, wanted in self._world.rows(
            "SELECT id, reference, provider, state, cancel_wanted FROM remote_job"
        ):
            service = self._world.services[provider]
            order = service.orders.get(reference)
            if state in _OPEN and not wanted:
                self._model.broken(f"remote job {job_id} ({reference}) is {state} at the end")
            if state == "done" and (order is None or order.end not in ("done", "forgotten")):
                self._model.broken(f"{reference} is done, and the service has not made it: {order}")
            careful = provider not in self._world.settings.providers_that_may_bill_twice
            if state == "failed" and careful and order is not None and not order.told and not order.cancelled:
                self._model.broken(f"{reference} was carried out and is written down as failed: {order}")

    @staticmethod
    def _images(images: object) -> list[dict[str, str]]:
        import json

        return json.loads(images) if isinstance(images, str) else images  # type: ignore[return-value]
