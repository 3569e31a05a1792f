"""Corrections after a clock was set back: due times that now lie hours ahead are moved.

Only the distance between a due time and the time of its writing has a meaning.  So a row with a time of writing in the
future is moved: if it was due five minutes after it was written, it becomes due in five minutes, and a wait that a
service asked for is kept.  A user's own start time is a time of day and not a delay: it is never moved (CORRECTNESS
47).
"""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.database.interface.database import Transaction
from supervisor.remote.breaker import MOST_SECONDS as BREAKER_SECONDS
from supervisor.schema.tables import HELD, UNRIPE, UNSETTLED
from supervisor.store.remote import remote_cancels
from supervisor.store.webhooks import deliveries

TOLERANCE_SECONDS = 5.0  # a smaller distance comes from a slowed clock and does no harm


def set_right(tx: Transaction) -> int:
    """Move rows that were written in the future; how many, 0 if the clock has not stepped back.

    Rows that other transactions have locked are just being written, or the next sweep finds them.
    """
    statements = (*_of_tasks(tx), *_of_services(tx), *_of_webhooks(tx), *_of_sweeps(tx), *_of_notices(tx))
    return sum(tx.run(statement) for statement in statements)


def take_back_early(tx: Transaction) -> int:
    """Make ready tasks wait if their time has not come after all; how many."""
    return tx.run(
        f"""UPDATE task_queue SET ready = 0 WHERE id IN
            (SELECT id FROM task_queue WHERE status = 'pending' AND ready = 1 AND run_after > {tx.now}
             {tx.for_update_of_free("task_queue")})"""
    )


def _of_tasks(tx: Transaction) -> Iterator[str]:
    free = tx.for_update_of_free("task_queue")
    # A poll that ends after the step writes the row anew, and a limit from before it stays: the attempt's beginning
    # still shows that it was written in the future.
    written = f"CASE WHEN updated_at > {_ahead(tx)} THEN updated_at ELSE processing_started_at END"
    yield (
        f"""UPDATE task_queue SET next_poll_at = CASE WHEN updated_at > {_ahead(tx)}
                THEN {_moved(tx, "next_poll_at", "updated_at")} ELSE next_poll_at END,
            remote_deadline_at = {_moved(tx, "remote_deadline_at", written)},
            processing_started_at = {tx.least("processing_started_at", tx.now)}, updated_at = {tx.now}
        WHERE id IN (SELECT id FROM task_queue WHERE status = 'ai_processing' AND next_poll_at IS NOT NULL
            AND (updated_at > {_ahead(tx)} OR processing_started_at > {_ahead(tx)}){free})"""
    )
    yield (  # a poll at a time in the future does not count, and neither does its answer
        f"""UPDATE task_queue SET questions = 0, asked_since = NULL, asked_at = NULL, answered_at = NULL
        WHERE id IN (SELECT id FROM task_queue WHERE status = 'ai_processing' AND asked_at > {_ahead(tx)}{free})"""
    )
    # A task that was never begun waits for its user's own time, any other one for the end of a delay.
    yield (
        f"""UPDATE task_queue SET run_after = {_moved(tx, "run_after", "updated_at")}, updated_at = {tx.now}
        WHERE id IN (SELECT id FROM task_queue WHERE {UNRIPE}
            AND run_after > {_ahead(tx)} AND attempt > 0 AND updated_at > {_ahead(tx)}{free})"""
    )
    yield (
        f"""UPDATE task_queue SET deadline_at = {_moved(tx, "deadline_at", "processing_started_at")},
            processing_started_at = {tx.now}
        WHERE id IN (SELECT id FROM task_queue WHERE {HELD} AND status = 'processing'
            AND processing_started_at > {_ahead(tx)}{free})"""
    )


def _of_services(tx: Transaction) -> Iterator[str]:
    yield (
        f"""UPDATE provider_state SET until = {_moved(tx, "until", "moved_at")}, moved_at = {tx.now}
            WHERE breaker = 'open' AND moved_at > {_ahead(tx)}"""
    )
    longest = tx.shifted(tx.now, str(BREAKER_SECONDS))
    yield (
        f"""UPDATE provider_state SET until = {longest}, moved_at = {tx.now}
            WHERE breaker = 'open' AND moved_at IS NULL AND until > {longest}"""
    )
    yield (f"UPDATE provider_state SET refilled_at = {tx.now} WHERE refilled_at > {_ahead(tx)}")
    yield (f"UPDATE provider_state SET opened_at = {tx.now} WHERE opened_at > {_ahead(tx)}")
    # Otherwise its place at the service would stay taken for as long.
    yield (
        f"""UPDATE remote_job SET updated_at = {tx.now}
            WHERE {UNSETTLED} AND state = 'submitting' AND updated_at > {_ahead(tx)}"""
    )
    # Otherwise the service's answers about it would not count for as long.
    yield (
        f"""UPDATE remote_job SET doubted_at = {tx.now}
            WHERE {UNSETTLED} AND state = 'waiting' AND doubted_at > {_ahead(tx)}"""
    )
    longest = tx.shifted(tx.now, str(remote_cancels.MOST_SECONDS))
    yield (
        f"""UPDATE remote_job SET cancel_due_at = {longest}
            WHERE cancel_wanted = 1 AND state = 'waiting' AND cancel_due_at > {longest}"""
    )


def _of_webhooks(tx: Transaction) -> Iterator[str]:
    written = """(SELECT {} FROM webhook_attempt WHERE webhook_attempt.delivery_id = webhook_delivery.id
        AND webhook_attempt.dispatch = webhook_delivery.dispatch)"""
    ended, next_ = written.format("ended_at"), written.format("next_at")
    yield (
        f"""UPDATE webhook_delivery SET due_at = {tx.shifted(tx.now, tx.seconds_between(ended, next_))}
            WHERE state = 'waiting' AND attempts > 0 AND due_at > {_ahead(tx)}
              AND {ended} > {_ahead(tx)} AND {next_} >= {ended}"""
    )
    yield (
        f"""UPDATE webhook_delivery SET due_at = {tx.now}
            WHERE state = 'waiting' AND attempts = 0 AND due_at > {_ahead(tx)}"""
    )
    longest = tx.shifted(tx.now, str(deliveries.CLAIM_SECONDS))
    yield (f"UPDATE webhook_delivery SET due_at = {longest} WHERE state = 'sending' AND due_at > {longest}")


def _of_sweeps(tx: Transaction) -> Iterator[str]:
    # Repeated minutes are swept again.
    yield f"DELETE FROM sweep_run WHERE started_at > {_ahead(tx)}"
    yield f"UPDATE file_walk SET begun_at = {tx.now} WHERE begun_at > {_ahead(tx)}"


def _of_notices(tx: Transaction) -> Iterator[str]:
    # Otherwise an alert about a past event would stay for as long.
    yield f"UPDATE user_notice SET first_at = {tx.now}, last_at = {tx.now} WHERE last_at > {_ahead(tx)}"


def _ahead(tx: Transaction) -> str:
    """SQL for the first moment that counts as the future."""
    return tx.shifted(tx.now, str(TOLERANCE_SECONDS))


def _moved(tx: Transaction, time: str, written: str) -> str:
    """SQL that moves a time: its distance from now becomes its distance from the time of its writing."""
    return tx.shifted(tx.now, tx.greatest("0.0", tx.seconds_between(written, time)))
