"""A task that a remote service works on: hand it off, poll it, let it wait again.

No worker holds such a task between two polls.  A poll's claim moves the next poll time beyond the time the poll may
take, so if the worker is lost, the poll is simply due again; the late worker has lost its lease by then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from supervisor.core.errors import LeaseLost
from supervisor.core.placement import Placement, Room, room_of
from supervisor.database.interface.database import Row, Transaction
from supervisor.remote.job_states import Word
from supervisor.schema.tables import HELD
from supervisor.store.sql.row_isolation import Aside, apart, done_apart, id_of
from supervisor.store.sql.rows import encoded
from supervisor.store.tasks import claims
from supervisor.store.tasks.claims import Wanted

POLLS_PER_WORKER = 200  # at once
# For an expired task: a sweep must come in between, and it gives no verdict while a poll is under way.
PAUSE_FOR_THE_SWEEP_SECONDS = 90.0
# If no answer comes, so many polls over so much time are enough.
QUESTIONS, QUESTIONS_SECONDS = 3, 60.0
_HELD = "id = :task_id AND lease = :lease AND worker_id IS NOT NULL"
# An unread report makes the next poll due at once.  :newest_report: the last report that was read.  Reports of an ended
# job do not count: they are never read, so while another part of the task runs they would make the poll due again and
# again.
_UNREAD = """EXISTS (SELECT 1 FROM remote_report JOIN remote_job ON remote_job.reference = remote_report.reference
    WHERE remote_report.task_id = task_queue.id AND remote_report.charge = task_queue.charge
    AND remote_report.read_at IS NULL AND remote_report.id > :newest_report AND remote_job.state = 'waiting'
    AND remote_job.step = task_queue.step)"""


class Undelivered(NamedTuple):
    """A claim that was found in the list of a worker."""

    task_id: str
    lease: int
    worker_id: str


def hand_off(
    tx: Transaction, task_id: str, lease: int, *, poll_in_seconds: float, remote_limit_seconds: float
) -> None:
    """Hand the task off, because the service has accepted the job.  Raises LeaseLost."""
    lock(tx, task_id)
    touched = tx.run(
        f"""UPDATE task_queue SET status = 'ai_processing', worker_id = NULL,
            stage = CASE WHEN steps IS NULL THEN '' ELSE (steps -> step ->> 'name') || ': ' END
                || 'waiting for the service',
            deadline_at = NULL,
            next_poll_at = CASE WHEN {_UNREAD} THEN {tx.now} ELSE {tx.in_seconds(":poll_seconds")} END,
            remote_deadline_at = {tx.in_seconds(":limit_seconds")}, asked_at = NULL, asked_since = NULL, questions = 0,
            answered_at = NULL, updated_at = {tx.now}
        WHERE {_HELD} AND status = 'processing'""",
        newest_report=0, poll_seconds=poll_in_seconds, limit_seconds=remote_limit_seconds,
        task_id=task_id, lease=lease,
    )  # fmt: skip
    if touched != 1:
        raise LeaseLost(task_id, lease)


def room_for_polls(tx: Transaction, shunned: Collection[str] = ()) -> list[Room]:
    """How many more polls the live workers take now, so that no poll waits long.  Polls hold no offers."""
    rows = tx.all(
        f"""SELECT id, types, '{{}}' AS offers, (SELECT count(*) FROM task_queue WHERE task_queue.worker_id = worker.id
                AND {HELD} AND status = 'ai_processing') AS held
            FROM worker WHERE state = 'live' AND takes_claims = 1"""
    )
    rooms = [room_of(row, POLLS_PER_WORKER - row["held"]) for row in rows if row["id"] not in shunned]
    return [room for room in rooms if room.slots > 0]


def claim_due_polls(
    tx: Transaction,
    rooms: Sequence[Room],
    again_in_seconds: Callable[[str, str], float],
    aside: Aside | None = None,
) -> list[Row]:
    """Claim the remote jobs whose poll is due, for the workers with the most free places; rows for `claim_of`.

    rooms: `room_for_polls`.  again_in_seconds: a type and the lane of a step -> how long a poll may take; a lost poll
    needs no other rescue than the next poll time.  aside: collects the rows that the database refuses.
    """
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    is_taken, types = "1 = 1", {}
    restricted = [room.types for room in rooms if room.types is not None]
    if len(restricted) == len(rooms):
        is_taken = tx.is_one_of("type", ":types")
        types = {"types": encoded(sorted(frozenset[str]().union(*restricted)))}
    due = tx.all(
        f"""SELECT id, type, lane FROM task_queue
            WHERE status = 'ai_processing' AND next_poll_at <= {tx.now} AND {others} AND {is_taken}
            ORDER BY next_poll_at LIMIT :most{tx.for_update_of_free("task_queue")}""",
        **left_alone, **types, most=sum(room.slots for room in rooms),
    )  # fmt: skip
    placement = Placement(rooms, {})
    wanted = {
        row["id"]: Wanted(row["id"], worker_id, again_in_seconds(row["type"], row["lane"]))
        for row in due
        if (worker_id := placement.place(row["type"])) is not None
    }
    if not wanted:
        return []
    return done_apart(
        tx,
        "task_queue",
        list(wanted),
        lambda ids: _claim_polls(tx, [wanted[task_id] for task_id in ids]),
        aside,
    )


def _claim_polls(tx: Transaction, wanted: Sequence[Wanted]) -> list[Row]:
    alive = tx.for_free_key_share("worker")
    return tx.all(
        f"""WITH alive AS MATERIALIZED (SELECT id FROM worker WHERE state = 'live' AND takes_claims = 1
            AND {tx.is_one_of("id", ":workers")}{alive})
        UPDATE task_queue SET lease = lease + 1, worker_id = wanted.value ->> 1, updated_at = {tx.moment},
            asked_at = {tx.moment},
            next_poll_at = {tx.shifted(tx.moment, "CAST(wanted.value ->> 2 AS DOUBLE PRECISION)")}
        FROM {tx.rows(":wanted")} AS wanted
        WHERE task_queue.id = wanted.value ->> 0 AND status || '' = 'ai_processing'
          AND (wanted.value ->> 1 IN (SELECT id FROM alive)) IS TRUE
        RETURNING {claims.told(tx)}""",
        workers=encoded(sorted({each.worker_id for each in wanted})), wanted=encoded(wanted),
    )  # fmt: skip


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
    """Let the task wait again, because its job still runs, and record its progress, which never falls.  Raises
    LeaseLost.

    newest_report: the last report that this poll has read; a report that could not be read waits for the next poll.
    word: the source of the answer.  If a service can't be polled, enough rounds without a report count as an answer.
    The poll is counted here and not at its claim, because a claim may never reach a worker; `asked_at` is the time of
    the claim.  Polls from before the present time of being well do not count.
    """
    lock(tx, task_id)
    goes_on = "asked_since >= (SELECT well_since FROM dispatcher WHERE id = 1) AND asked_since <= asked_at"
    since = f"CASE WHEN {goes_on} THEN asked_since ELSE asked_at END"
    questions = f"CASE WHEN {goes_on} THEN questions + 1 ELSE 1 END"
    had_its_rounds = (
        f"{questions} >= {QUESTIONS} AND {tx.seconds_between(since, 'asked_at')} >= {QUESTIONS_SECONDS}"
    )
    least = f"CASE WHEN expires_at <= {tx.now} THEN {PAUSE_FOR_THE_SWEEP_SECONDS} ELSE 0.0 END"
    next_poll = tx.shifted(tx.now, tx.greatest("CAST(:poll_seconds AS DOUBLE PRECISION)", least))
    touched = tx.run(
        f"""UPDATE task_queue SET worker_id = NULL, questions = {questions}, asked_since = {since},
            next_poll_at = CASE WHEN {_UNREAD} THEN {tx.now} ELSE {next_poll} END,
            progress = {tx.greatest("progress", "CAST(:progress AS INTEGER)")},
            stage = coalesce(CAST(:stage AS TEXT), stage),
            answered_at = CASE WHEN :is_said = 1 OR (:is_unaskable = 1 AND {had_its_rounds}) THEN asked_at
            ELSE answered_at END,
            updated_at = {tx.now} WHERE {_HELD} AND status = 'ai_processing'""",
        newest_report=newest_report, poll_seconds=poll_in_seconds, progress=min(progress, 99), stage=stage,
        is_said=int(word is Word.SAID), is_unaskable=int(word is Word.UNASKABLE), task_id=task_id, lease=lease,
    )  # fmt: skip
    if touched != 1:
        raise LeaseLost(task_id, lease)


def ask_again(tx: Transaction, task_id: str, lease: int) -> bool:
    """Make the poll due now, because its worker stops or is dead; the attempt stays the same.  False if the lease is
    lost."""
    touched = tx.run(
        f"""UPDATE task_queue SET worker_id = NULL, next_poll_at = {tx.now}, updated_at = {tx.now}
        WHERE {_HELD} AND status = 'ai_processing'""",
        task_id=task_id,
        lease=lease,
    )
    return touched == 1


def give_back(tx: Transaction, task_id: str, lease: int) -> None:
    """Give back a claim that its worker has not begun, at once and uncounted.  Raises LeaseLost."""
    if not ask_again(tx, task_id, lease):
        claims.release(tx, task_id, lease)


def take_back(tx: Transaction, undelivered: Sequence[Undelivered]) -> int:
    """Put back claims whose messages were taken from a list before their workers read them; how many.

    The process that takes a message from the list owns its claims.  So the worker has not begun them, unless a
    heartbeat found the row first; then the row, or a recorded request, shows it.  Neither a failure nor a death is
    counted.  Rows that another transaction has locked, or that are refused, wait for their worker, or for their rescue.
    """
    rows = tx.all(
        f"""SELECT task_queue.id, lease FROM task_queue JOIN {tx.rows(":sent")} AS sent
                ON task_queue.id = sent.value ->> 0 AND lease = CAST(sent.value ->> 1 AS INTEGER)
                AND worker_id = sent.value ->> 2
            WHERE (status || '' = 'ai_processing' OR (status || '' = 'processing' AND begun_lease < lease
                AND NOT EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id
                    AND remote_job.charge = task_queue.charge AND remote_job.lease = task_queue.lease)))
            ORDER BY user_openid, task_queue.id{tx.for_update_of_free("task_queue")}""",
        sent=encoded(list(dict.fromkeys(undelivered))),  # a message that was sent twice is in the list twice
    )

    def give(some: Sequence[Row]) -> list[str]:
        for row in some:
            give_back(tx, row["id"], row["lease"])
        return [row["id"] for row in some]

    given, _ = apart(tx, "task_queue", rows, id_of, give)
    return len(given)


def lock(tx: Transaction, task_id: str) -> None:
    """Before the row's update, so that every report stored before it is seen, and none can come in between."""
    if tx.for_update:
        tx.one(f"SELECT 1 FROM task_queue WHERE id = :task_id {tx.for_update}", task_id=task_id)
