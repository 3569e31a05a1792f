"""A task whose work a remote service does: hand it off, go round to ask, put it back to wait.

Nobody holds such a task between two polls.  A poll's claim moves the next poll time past the time the poll may take,
so one whose worker is lost is simply due again; the late poller's lease is gone by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supervisor.database import Row, Transaction
from supervisor.faults import LeaseLost
from supervisor.remote_states import Word
from supervisor.store import claims
from supervisor.store.claims import Claim
from supervisor.store.isolation import Aside, apart, id_of

POLL_SECONDS = 300.0  # of a type that no setting names any more
# Of a task that has expired: in between comes a sweep, which gives no verdict while a poll is out.
PAUSE_FOR_THE_SWEEP_SECONDS = 90.0
# So many questions over so long a time are enough where no answer comes.
QUESTIONS, QUESTIONS_SECONDS = 3, 60.0
_HELD = "id = ? AND lease = ? AND worker_id IS NOT NULL"
# A report that nobody has looked at makes the next poll due at once.  One parameter: the newest that was looked at.
# Those of a job that is over are looked at by nobody: with another part of the task still at work, they would make it
# due at once for ever.
_UNREAD = """EXISTS (SELECT 1 FROM remote_report JOIN remote_job ON remote_job.reference = remote_report.reference
    WHERE remote_report.task_id = task_queue.id AND remote_report.charge = task_queue.charge
    AND remote_report.read_at IS NULL AND remote_report.id > ? AND remote_job.state = 'waiting')"""


def hand_off(
    tx: Transaction, task_id: str, lease: int, *, poll_in_seconds: float, remote_limit_seconds: float
) -> None:
    """The service has accepted the job: give the lease back and wait.  Raises LeaseLost."""
    lock(tx, task_id)
    touched = tx.run(
        f"""UPDATE task_queue SET status = 'ai_processing', stage = 'waiting for the service', worker_id = NULL,
            deadline_at = NULL, dispatch = dispatch + 1,
            next_poll_at = CASE WHEN {_UNREAD} THEN {tx.now} ELSE {tx.in_seconds} END,
            remote_deadline_at = {tx.in_seconds}, asked_at = NULL, asked_since = NULL, questions = 0,
            answered_at = NULL, updated_at = {tx.now}
        WHERE {_HELD} AND status = 'processing'""",
        0, poll_in_seconds, remote_limit_seconds, task_id, lease,
    )  # fmt: skip
    if touched != 1:
        raise LeaseLost(task_id, lease)


def claim_polls(
    tx: Transaction,
    hints: Sequence[tuple[str, int]],
    worker_id: str,
    again_in_seconds: Mapping[str, float],
    aside: Aside | None = None,
) -> list[Claim]:
    """Take waiting tasks to ask their services; those whose hint is stale are left out.

    hints: (task id, dispatch), any number.  again_in_seconds: {type: how long a poll of its tasks may take}.
    aside: takes those that the database refuses, or that hold what can't be read.
    """
    numbers = dict(hints)
    marks = ",".join("?" * len(numbers))
    rows = tx.all(  # in the order in which everybody locks tasks
        f"""SELECT * FROM task_queue WHERE id IN ({marks}) AND status = 'ai_processing'
            ORDER BY user_openid, id {tx.for_update}""",
        *numbers,
    )

    def take(some: Sequence[Row]) -> list[Claim]:
        claimed = []
        for row in some:
            again_in = again_in_seconds.get(row["type"], POLL_SECONDS)
            lease = claim_poll(tx, row["id"], numbers[row["id"]], worker_id, again_in)
            if lease is not None:
                claimed.append(claims.claim_of({**row, "lease": lease}, image_keys={}))
        return claimed

    claimed, refused = apart(tx, "task_queue", rows, id_of, take, unreadable=(ValueError, RecursionError))
    (aside or Aside()).refused.extend(refused)
    return claimed


def claim_poll(
    tx: Transaction, task_id: str, dispatch: int, worker_id: str, again_in_seconds: float
) -> int | None:
    """Take a waiting task to ask its service; the lease, or None when the hint is stale.

    again_in_seconds: the next poll time if this poller is lost; no other rescue is needed.
    The question is counted: questions of an earlier time in which we were well prove nothing in this one.
    """
    goes_on = (
        f"asked_since >= (SELECT well_since FROM dispatcher WHERE id = 1) AND asked_since <= {tx.moment}"
    )
    lease: int | None = tx.value(
        f"""UPDATE task_queue SET lease = lease + 1, worker_id = ?, dispatched_at = NULL,
            next_poll_at = {tx.in_seconds}, updated_at = {tx.now}, asked_at = {tx.moment},
            questions = CASE WHEN {goes_on} THEN questions + 1 ELSE 1 END,
            asked_since = CASE WHEN {goes_on} THEN asked_since ELSE {tx.moment} END
        WHERE id = ? AND status = 'ai_processing' AND dispatch = ?
          AND (worker_id IS NULL OR next_poll_at <= {tx.now})
          AND EXISTS (SELECT 1 FROM worker WHERE worker.id = ? AND worker.state = 'live')
        RETURNING lease""",
        worker_id, again_in_seconds, task_id, dispatch, worker_id,
    )  # fmt: skip
    return lease


def not_yet(
    tx: Transaction,
    task_id: str,
    lease: int,
    poll_in_seconds: float,
    *,
    progress: int = 0,
    stage: str | None = None,
    newest_report: int = 0,
    word: Word = Word.SAID,
) -> None:
    """The job still runs: wait again, and show how far it is.  progress never falls.  Raises LeaseLost.

    newest_report: the last one this poll has looked at; one that could not be read now waits for the next poll.
    word: who says so.  Where nobody can be asked, enough rounds that brought no report count as an answer.
    """
    lock(tx, task_id)
    had_its_rounds = f"questions >= {QUESTIONS} AND {tx.seconds_between('asked_since', 'asked_at')} >= ?"
    least = f"CASE WHEN expires_at <= {tx.now} THEN {PAUSE_FOR_THE_SWEEP_SECONDS} ELSE 0.0 END"
    next_poll = tx.shifted(tx.now, tx.greatest("CAST(? AS DOUBLE PRECISION)", least))
    touched = tx.run(
        f"""UPDATE task_queue SET worker_id = NULL, dispatch = dispatch + 1,
            next_poll_at = CASE WHEN {_UNREAD} THEN {tx.now} ELSE {next_poll} END,
            progress = {tx.greatest("progress", "CAST(? AS INTEGER)")}, stage = coalesce(CAST(? AS TEXT), stage),
            answered_at = CASE WHEN ? = 1 OR (? = 1 AND {had_its_rounds}) THEN asked_at ELSE answered_at END,
            updated_at = {tx.now} WHERE {_HELD} AND status = 'ai_processing'""",
        newest_report, poll_in_seconds, min(progress, 99), stage,
        int(word is Word.SAID), int(word is Word.UNASKABLE), QUESTIONS_SECONDS, task_id, lease,
    )  # fmt: skip
    if touched != 1:
        raise LeaseLost(task_id, lease)


def ask_again(tx: Transaction, task_id: str, lease: int) -> bool:
    """The poller stops or is dead: the poll is due now, the attempt is the same; False when that lease is gone."""
    touched = tx.run(
        f"""UPDATE task_queue SET worker_id = NULL, dispatched_at = NULL, dispatch = dispatch + 1,
            next_poll_at = {tx.now}, updated_at = {tx.now}
        WHERE {_HELD} AND status = 'ai_processing'""",
        task_id, lease,
    )  # fmt: skip
    return touched == 1


def give_back(tx: Transaction, task_id: str, lease: int) -> None:
    """A worker holds this and does nothing with it: others may, at once and at no cost.  Raises LeaseLost."""
    if not ask_again(tx, task_id, lease):
        claims.release(tx, task_id, lease)


def lock(tx: Transaction, task_id: str) -> None:
    """Before the row's update, so that this sees every report that is stored before it, and none is between."""
    if tx.for_update:
        tx.one(f"SELECT 1 FROM task_queue WHERE id = ? {tx.for_update}", task_id)
