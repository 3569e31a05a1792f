"""The deletion of old rows, one batch a step: unused uploads, finished tasks, files that no row names.

An upload is deleted in two steps.  First it expires: no new task may name it, but tasks that name it already can still
read it.  An hour later, every submission that saw it valid has long been committed.  It is checked again, and deleted
only if it is still unused.  No object is deleted here: its key is queued in the same transaction (`deletion_queue`).

The ledger is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from supervisor.core.shown_images import keys_of
from supervisor.database.interface.database import Row, Transaction
from supervisor.media.shown_outputs import keys_of_outputs
from supervisor.schema.tables import UNSETTLED
from supervisor.store.retention.deletion_queue import enqueue_deletion
from supervisor.store.sql.locks import rows_of_free_accounts
from supervisor.store.sql.row_isolation import Aside, delete_apart
from supervisor.store.sql.rows import decoded, encoded
from supervisor.store.tasks import results

SECOND_LOOK_SECONDS = 3600
ALL_TYPES = 1_000_000


class Looked(NamedTuple):
    """How many rows a step has checked, and how many of them it has deleted."""

    at: int
    forgotten: int


# In use: named by a task whose work is kept, which includes every open task; or perhaps by a row that is not admitted
# yet.
_IS_NEEDED = """(EXISTS (SELECT 1 FROM image_use JOIN works ON works.task_id = image_use.task_id
        WHERE image_use.image_id = image.id)
    OR EXISTS (SELECT 1 FROM task_queue WHERE task_queue.user_openid = image.user_openid
        AND task_queue.status = 'pending' AND task_queue.admitted_charge <> task_queue.charge))"""


def expire_uploads(tx: Transaction, unused_seconds: float, most: int) -> int:
    """Check uploads that were not found in use for so long; how many were checked."""
    return tx.run(
        f"""UPDATE image SET used_at = CASE WHEN {_IS_NEEDED} THEN {tx.now} ELSE used_at END,
            expired_at = CASE WHEN {_IS_NEEDED} THEN NULL ELSE {tx.now} END
        WHERE id IN (SELECT id FROM image WHERE expired_at IS NULL
            AND coalesce(used_at, created_at) < {tx.ago(":unused_seconds")}
            ORDER BY coalesce(used_at, created_at) LIMIT :most{tx.for_update_of_free("image")})""",
        unused_seconds=unused_seconds, most=most,
    )  # fmt: skip


def forget_expired_uploads(tx: Transaction, most: int, aside: Aside | None = None) -> Looked:
    """Delete uploads that expired an hour ago, except those that a task named at the moment of their expiry."""
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    rows = tx.all(
        f"""SELECT id, key, {_IS_NEEDED} AS is_needed FROM image
            WHERE expired_at < {tx.ago(":second_look_seconds")} AND {others}
            ORDER BY expired_at LIMIT :most{tx.for_update_of_free("image")}""",
        second_look_seconds=SECOND_LOOK_SECONDS, **left_alone, most=most,
    )  # fmt: skip
    needed = [row["id"] for row in rows if row["is_needed"]]
    if needed:
        tx.execute(
            f"UPDATE image SET expired_at = NULL, used_at = {tx.now} WHERE {tx.is_one_of('id', ':needed')}",
            needed=encoded(needed),
        )
    keys = {row["id"]: row["key"] for row in rows}

    def forget_uses(ids: str) -> None:
        enqueue_deletion(tx, (keys[image] for image in decoded(ids)))
        tx.execute(f"DELETE FROM image_use WHERE {tx.is_one_of('image_id', ':ids')}", ids=ids)

    unneeded = [row for row in rows if not row["is_needed"]]
    return Looked(len(rows), delete_apart(tx, "image", unneeded, aside, before=forget_uses))


def types_of_finished_tasks(tx: Transaction, most: int = ALL_TYPES) -> list[str]:
    """Every type that a finished task has, each found by one step along the index, however many tasks there are.

    Types that no setting names are among them: a program that writes rows may have any.  most: the first so many.
    """
    next_one = "SELECT min(type) FROM task_queue WHERE finished_at IS NOT NULL"
    rows = tx.all(
        f"""WITH RECURSIVE found (type) AS (
                {next_one} UNION ALL
                SELECT ({next_one} AND task_queue.type > found.type) FROM found WHERE found.type IS NOT NULL)
            SELECT type FROM found WHERE type IS NOT NULL LIMIT :most""",
        most=most,
    )
    return [row["type"] for row in rows]


# A task of a type that may be deleted: it ended so long ago, and so did its remote jobs.  {ended}: before when.
_IS_LONG_OVER = f"""finished_at IS NOT NULL AND type = :type_ AND finished_at < {{ended}}
    AND NOT EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id
        AND remote_job.{UNSETTLED})"""


def forget_finished_tasks(
    tx: Transaction, type_: str, older_than_seconds: float, most: int, aside: Aside | None = None
) -> int:
    """Delete the oldest finished tasks of a type with their works and pictures; how many were deleted.

    The users' feeds send `remove` for these works.  A task with an open remote job is kept for now, and so is one that
    another transaction has locked, or whose user's account.
    """
    is_long_over = _IS_LONG_OVER.format(ended=tx.ago(":older_than_seconds"))
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")

    def oldest(held_up: list[str]) -> list[Row]:
        return tx.all(
            f"""SELECT id, user_openid FROM task_queue WHERE {is_long_over} AND {others}
                AND NOT {tx.is_one_of("user_openid", ":held_up")}
                ORDER BY finished_at LIMIT :most{tx.for_update_of_free("task_queue")}""",
            type_=type_, older_than_seconds=older_than_seconds, **left_alone, held_up=encoded(held_up), most=most,
        )  # fmt: skip

    if not tx.for_update:
        rows = oldest([])
    else:
        locked = rows_of_free_accounts(tx, oldest)
        rows = tx.all(  # without those that were retried meanwhile
            f"SELECT id FROM task_queue WHERE {tx.is_one_of('id', ':ids')} AND {is_long_over}",
            ids=encoded([row["id"] for row in locked]), type_=type_, older_than_seconds=older_than_seconds,
        )  # fmt: skip
    return delete_apart(tx, "task_queue", rows, aside, before=lambda ids: _forget_what_tasks_left(tx, ids))


def _forget_what_tasks_left(tx: Transaction, ids: str) -> None:
    """Delete works and all other rows that name these tasks.  ids: as a JSON array."""
    enqueue_deletion(tx, [*_shown_by_works(tx, ids), *results.keys(tx, ids)])
    for table in ("result_file", "task_step", "works", "webhook", "task_trace"):
        tx.execute(f"DELETE FROM {table} WHERE {tx.is_one_of('task_id', ':ids')}", ids=ids)


def doom_orphans(tx: Transaction, keys: Sequence[str]) -> int:
    """Queue those of these objects for deletion that no row will need again; how many.

    Such an object is a picture of an earlier charge or of a failed task: only the charge that paid for it may use it.
    """
    uploads = tx.all(f"SELECT key FROM image WHERE {tx.is_one_of('key', ':keys')}", keys=encoded(list(keys)))
    named = {row["key"] for row in uploads} | _named_by_results(tx, keys)
    orphans = sorted(set(keys) - named)
    if orphans:
        tx.execute(
            f"DELETE FROM result_file WHERE {tx.is_one_of('key', ':orphans')}", orphans=encoded(orphans)
        )
    return enqueue_deletion(tx, orphans)


def _named_by_results(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Files that the tasks may still use, and all files that their works show."""
    tasks = {parts[1] for key in keys if (parts := key.split("/"))[0] == "results" and len(parts) > 1}
    ids = encoded(sorted(tasks))
    return {*results.usable_keys(tx, ids), *_shown_by_works(tx, ids)}


def _shown_by_works(tx: Transaction, ids: str) -> list[str]:
    """Keys of the pictures, thumbnails, files and data that the works of these tasks show.  ids: as a JSON array."""
    found = tx.all(f"SELECT images, outputs FROM works WHERE {tx.is_one_of('task_id', ':ids')}", ids=ids)
    return [
        key
        for row in found
        for key in (*keys_of(decoded(row["images"])), *keys_of_outputs(decoded(row["outputs"])))
    ]
