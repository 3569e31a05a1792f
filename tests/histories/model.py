"""The promises, judged by plain SQL and the world's own record of events, never by the product's code.

`after` checks the changes of one transaction, `whole` checks everything, `at_rest` checks the end, when no work may be
left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.histories import jobs, ledger, verdicts
from tests.histories.virtual_loop import Process

if TYPE_CHECKING:
    from tests.histories.readers import Reader
    from tests.histories.world import World

OPEN = ("pending", "processing", "ai_processing")
HELD = ("processing", "ai_processing")
FINAL = ("completed", "failed", "cancelled")
_COLUMNS = (
    "id", "user_openid", "type", "status", "charge", "admitted_charge", "attempt", "lease", "failures", "progress",
    "stage", "worker_id", "remote_deadline_at", "expires_at", "deadline_at", "error", "images", "missing",
    "picture_count", "run_after", "step", "first_step", "last_step", "kept",
)  # fmt: skip


class Task(NamedTuple):
    """A row of task_queue."""

    id: str
    user_openid: str
    type: str
    status: str
    charge: int
    admitted_charge: int
    attempt: int
    lease: int
    failures: int
    progress: int
    stage: str
    worker_id: str | None
    remote_deadline_at: str | None
    expires_at: str | None
    deadline_at: str | None
    error: Any
    images: Any
    missing: int
    picture_count: int
    run_after: str | None
    step: int
    first_step: int
    last_step: int
    kept: int

    @property
    def code(self) -> str:
        """Of its error; empty without one."""
        return str(decoded(self.error)["code"]) if self.error is not None else ""


def decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


class Model:
    """One history's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: dict[str, Task] = {}
        self.promises: list[str] = []
        self.known: list[str] = []  # broken, and ignored as told
        self.events = 0
        self.changed: list[str] = []  # tasks, by the last transaction
        self._seqs: dict[str, int] = {}
        self._folded: dict[str, dict[str, Any]] = {}
        self._log_id = 0
        self._begun: dict[tuple[str, int], str] = {}
        self.verdicts = verdicts.Verdicts(self)
        self.jobs = jobs.Jobs(self)

    # --- what others ask ---

    def broken(self, sentence: str) -> None:
        """A promise was broken: the history ends."""
        if self.world.ignoring and re.search(self.world.ignoring, sentence):
            self.known.append(sentence)
            self.world.note(f"known: {sentence}")
            return
        self.promises.append(sentence)
        self.world.note(f"BROKEN: {sentence}")
        self.world.stop()

    def unfinished(self) -> list[Task]:
        """Open tasks that should come to their end by themselves.

        A clock that was set back has put an hour that a user has named hours ahead, and it is kept (CORRECTNESS 47).
        """
        now = self.world.clock.text()
        found = [each for each in self.tasks.values() if each.status in OPEN]
        return [each for each in found if each.attempt or each.run_after is None or each.run_after <= now]

    def some_task(self, statuses: Sequence[str]) -> str | None:
        """One in one of these states, or None."""
        found = sorted(each.id for each in self.tasks.values() if each.status in statuses)
        return self.world.draw.choice(found) if found else None

    def begins(self, task_id: str, lease: int, worker_id: str) -> None:
        """A worker begins a claim that it received."""
        if (task_id, lease) in self._begun:
            before = self._begun[task_id, lease]
            self.broken(f"lease {lease} of {task_id} is begun by {worker_id}, and was by {before}")
        self._begun[task_id, lease] = worker_id

    def knows(self, user: str) -> bool:
        """Whether this user has an account."""
        return user in self._seqs

    def heard_error(self, process: Process, doing: str, error: BaseException) -> None:
        """Something that should end normally has not."""
        self.broken(f"{doing} in {process} raised {type(error).__name__}: {error}")

    # --- after each transaction ---

    def after(self, process: Process | None) -> None:
        """Check the changes; a process of None is a program that wrote SQL."""
        marks = ",".join(f"'{status}'" for status in OPEN)
        columns = ", ".join(_COLUMNS)
        found = {
            row[0]: Task(*row)
            for row in self.world.rows(f"SELECT {columns} FROM task_queue WHERE status IN ({marks})")
        }
        ended = [each.id for each in self.tasks.values() if each.status in OPEN and each.id not in found]
        for task_id in ended:
            rows = self.world.rows(f"SELECT {columns} FROM task_queue WHERE id = ?", task_id)
            if rows:
                found[task_id] = Task(*rows[0])
            else:
                self.broken(f"the open task {task_id} is gone")
        self.changed = []
        for task_id, now in found.items():
            before = self.tasks.get(task_id)
            if before != now:
                self.events += 1
                self.changed.append(task_id)
                self._judge_step(process, before, now)
                self.tasks[task_id] = now
        self._limits(found.values())
        self.verdicts.watch([each for each in found.values() if each.status in OPEN])
        self.jobs.after()
        self._fold_changes()

    def _judge_step(self, process: Process | None, before: Task | None, now: Task) -> None:
        if before is None:
            return
        if before.status in FINAL and now.id in self.world.people.own_ids and now.attempt == 0:
            return  # another task, which was given the name of one that was forgotten
        where = (
            f"task {now.id} ({before.status} → {now.status}, lease {before.lease} → {now.lease}) by {process}"
        )
        for column in ("lease", "attempt", "charge"):
            if getattr(now, column) < getattr(before, column):
                self.broken(f"{column} fell: {where}")
        if before.status == "completed" and now.status != "completed":
            self.broken(f"a completed task moved: {where}")
        same_attempt = (before.attempt, before.charge) == (now.attempt, now.charge)
        if same_attempt and now.status in HELD and before.status in HELD and now.progress < before.progress:
            self.broken(f"progress fell from {before.progress} to {now.progress}: {where}")
        self._judge_writer(process, before, now, where)
        if before.charge == now.charge and before.admitted_charge == now.admitted_charge:
            if now.step - before.step not in (0, 1):
                self.broken(f"step {before.step} became {now.step}: {where}")
            if now.step > before.step and before.status not in HELD:
                self.broken(f"step {before.step} ended though no worker had it: {where}")
            if now.last_step and now.progress < before.progress:
                self.broken(
                    f"progress fell from {before.progress} to {now.progress} at step {now.step}: {where}"
                )
        if now.status == "completed" and now.step != now.last_step:
            self.broken(f"completed at step {now.step} of {now.last_step}: {where}")
        if now.status == "failed" and before.status != "failed":
            self.verdicts.judge(process, before, now, where)
        if (before.status, now.status) == ("processing", "pending") and now.failures > before.failures:
            self.verdicts.judge_retry(process, before, now, where)

    def _judge_writer(self, process: Process | None, before: Task, now: Task, where: str) -> None:
        """A worker changes its own tasks, or takes a task without an owner."""
        part = self.world.worker_of(process)
        if part is None or before.status not in HELD or before.worker_id is None:
            return
        if before.worker_id != part.worker.id and not (
            now.lease == before.lease + 1 and now.worker_id == part.worker.id
        ):
            self.broken(f"{part.worker.id} wrote a row that {before.worker_id} holds: {where}")

    def _limits(self, found: Iterable[Task]) -> None:
        settings = self.world.settings
        by_type: dict[str, int] = {}
        by_user: dict[str, int] = {}
        for each in found:
            if each.status in HELD or each.step > each.first_step:
                by_type[each.type] = by_type.get(each.type, 0) + 1
                by_user[each.user_openid] = by_user.get(each.user_openid, 0) + 1
        for type_, number in by_type.items():
            limit = settings.tasks[type_].max_running
            if limit and number > limit:
                self.broken(f"{number} tasks of type {type_} run, MAX_RUNNING is {limit}")
        for user, number in by_user.items():
            limit = settings.limits.running_tasks_per_user
            if limit and number > limit:
                self.broken(f"{number} tasks of {user} run, RUNNING_TASKS_PER_USER is {limit}")

    def _fold_changes(self) -> None:
        rows = self.world.rows(
            """SELECT log_id, user_openid, seq, data_type, doc_id, doc FROM work_change WHERE log_id > ?
                ORDER BY user_openid, seq""",
            self._log_id,
        )
        for log_id, user, seq, data_type, doc_id, doc in rows:
            self.events += 1
            self._log_id = max(self._log_id, log_id)
            if seq != self._seqs.get(user, 0) + 1:
                self.broken(f"the change {seq} of {user} follows {self._seqs.get(user, 0)}")
            self._seqs[user] = seq
            works = self._folded.setdefault(user, {})
            if data_type == "remove":
                works.pop(doc_id, None)
            else:
                works[doc_id] = decoded(doc)

    # --- now and then ---

    def whole(self) -> None:
        """Look at everything."""
        ledger.check(self)
        self.jobs.check_files()
        self._check_works()
        self._check_log()

    def at_rest(self) -> None:
        """Nothing may be left to do."""
        self.whole()
        for each in self.unfinished()[:3]:
            self.broken(f"task {each.id} never ends at {self.world.clock.text()}: {each}")
        for worker_id, busy in self.world.rows(
            "SELECT id, busy FROM worker WHERE state = 'live' AND busy <> 0"
        ):
            self.broken(f"{worker_id} believes that {busy} of its slots are busy")
        for part in self.world.workers:
            if part.is_up and not part.process.is_dead and part.worker.running:
                self.broken(f"{part.process} still runs {[each.task_id for each in part.worker.running]}")
        self.jobs.at_rest()
        if self.unfinished():
            return  # what goes on is still told
        for reader in self.world.readers:
            if self.knows(reader.user) and reader.works != self._shown(reader):
                self.broken(f"a reader of {reader.user} believes something else than the works' rows say")

    def _shown(self, reader: Reader) -> dict[str, Any]:
        """The works that this reader has received: all, or those of its first snapshot and of later changes."""
        works = self._folded.get(reader.user, {})
        return {key: works.get(key) for key in reader.works} if reader.began_with_the_newest else works

    def _check_works(self) -> None:
        names = ("_id", "user_openid", "task_id", "type", "status", "stage", "progress", "images", "error")
        found: dict[str, dict[str, Any]] = {}
        for row in self.world.rows(
            "SELECT id, user_openid, task_id, type, status, stage, progress, images, error FROM works"
        ):
            work = dict(zip(names, row, strict=True))
            work |= {"images": decoded(work["images"]), "error": decoded(work["error"])}
            found.setdefault(work["user_openid"], {})[work["_id"]] = work
        for user in self._seqs:
            told = {
                key: {name: doc[name] for name in names} for key, doc in self._folded.get(user, {}).items()
            }
            if told != found.get(user, {}):
                self.broken(f"folding the changes of {user} does not give its works")
        for task_id, status, shown, stage, shown_stage, progress, shown_progress in self.world.rows(
            """SELECT task_queue.id, task_queue.status, works.status, task_queue.stage, works.stage,
                task_queue.progress, works.progress FROM works JOIN task_queue ON task_queue.id = works.task_id"""
        ):
            if (status, stage, progress) != (shown, shown_stage, shown_progress):
                self.broken(f"task {task_id} is {status} and its work says {shown}")

    def _check_log(self) -> None:
        for user, oldest, newest, number, seq in self.world.rows(
            """SELECT account.user_openid, min(work_change.seq), max(work_change.seq), count(*), account.seq
                FROM account JOIN work_change ON work_change.user_openid = account.user_openid
                GROUP BY account.user_openid, account.seq"""
        ):
            if number != newest - oldest + 1 or newest != seq:
                self.broken(
                    f"the log of {user} keeps {number} changes of {oldest}-{newest}, its seq is {seq}"
                )
