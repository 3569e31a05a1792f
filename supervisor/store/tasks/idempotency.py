"""Idempotency keys: a repeated request finds the task that the first one has made.

A key belongs to user, method and path.  It is stored in the task's own transaction, so the task and the key exist only
together; a simultaneous second request waits for that transaction and then finds the key.  A refused request stores
neither task nor key, so the caller may correct the request and use the key again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.core.errors import KeyReused
from supervisor.database.interface.database import Transaction
from supervisor.store.tasks import task_views
from supervisor.store.tasks.new_task import Key

KEPT_SECONDS = 24 * 3600

_THIS = "user_openid = :user AND method = :method AND path = :path AND key = :key"


def once(
    tx: Transaction, key: Key | None, step: Callable[[Transaction], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """The view from the step, and False; or the present view of the task with this key, and True.

    step: returns the task's view.  Without a key the step is simply run.  Raises KeyReused and the step's exceptions.
    """
    if key is None:
        return step(tx), False
    tx.lock_name("idempotency key " + " ".join(key.place))
    known = task_of(tx, key)
    if known is not None:
        return known, True
    view = step(tx)
    keep(tx, key, view["task_id"])
    return view, False


def task_of(tx: Transaction, key: Key) -> dict[str, Any] | None:
    """The present view of the task of the first request with this key; None for a new or expired key.

    Raises KeyReused if that request had another body.
    """
    row = tx.one(
        f"""SELECT body_hash, task_id, created_at > {tx.ago(":kept_seconds")} AS is_kept
            FROM idempotency_key WHERE {_THIS}""",
        kept_seconds=KEPT_SECONDS, **_place(key),
    )  # fmt: skip
    if row is None or not row["is_kept"]:
        return None
    if row["body_hash"] != key.body_hash:
        raise KeyReused
    return task_views.get(tx, row["task_id"], key.user)


def keep(tx: Transaction, key: Key, task_id: str) -> None:
    """Store the task under the key, in place of an expired entry."""
    tx.execute(
        f"""INSERT INTO idempotency_key (user_openid, method, path, key, body_hash, task_id, created_at)
            VALUES (:user, :method, :path, :key, :body_hash, :task_id, {tx.now})
            ON CONFLICT (user_openid, method, path, key) DO UPDATE
                SET body_hash = excluded.body_hash, task_id = excluded.task_id, created_at = excluded.created_at""",
        **_place(key), body_hash=key.body_hash, task_id=task_id,
    )  # fmt: skip


def count(tx: Transaction, user: str, method: str, path: str) -> int:
    """How many keys of a user are kept for exactly this path."""
    return int(
        tx.value(
            f"""SELECT count(*) FROM idempotency_key
                WHERE user_openid = :user AND method = :method AND path = :path
                AND created_at > {tx.ago(":kept_seconds")}""",
            user=user, method=method, path=path, kept_seconds=KEPT_SECONDS,
        )
    )  # fmt: skip


def prune(tx: Transaction, most: int) -> int:
    """Delete expired keys; how many."""
    return tx.run(
        f"""DELETE FROM idempotency_key WHERE (user_openid, method, path, key) IN
            (SELECT user_openid, method, path, key FROM idempotency_key WHERE created_at <= {tx.ago(":kept_seconds")}
             ORDER BY created_at LIMIT :most)""",
        kept_seconds=KEPT_SECONDS, most=most,
    )  # fmt: skip


def _place(key: Key) -> dict[str, str]:
    """What tells a key from all others, as parameters."""
    return dict(zip(("user", "method", "path", "key"), key.place, strict=True))
