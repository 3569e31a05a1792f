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
from supervisor.schema import statements
from supervisor.schema.statements import EXCLUDED, NOW, Built, ago, new_row, param, row_in
from supervisor.schema.tables import IdempotencyKey
from supervisor.store.tasks import task_views
from supervisor.store.tasks.new_task import Key

KEPT_SECONDS = 24 * 3600


_PATH = [getattr(IdempotencyKey, name) == param(name) for name in ("user_openid", "method", "path")]
_PLACE = [IdempotencyKey.user_openid, IdempotencyKey.method, IdempotencyKey.path, IdempotencyKey.key]
_IS_KEPT = IdempotencyKey.created_at > ago("seconds")
_TASK_OF = Built(
    IdempotencyKey.select(IdempotencyKey.body_hash, IdempotencyKey.task_id, _IS_KEPT.alias("is_kept")).where(
        *_PATH, IdempotencyKey.key == param("key")
    )
)
_KEEP = Built(
    new_row(
        IdempotencyKey, "user_openid", "method", "path", "key", "body_hash", "task_id", created_at=NOW
    ).on_conflict(
        conflict_target=_PLACE,
        update={
            each: getattr(EXCLUDED, each.name)
            for each in (IdempotencyKey.body_hash, IdempotencyKey.task_id, IdempotencyKey.created_at)
        },
    )
)
_COUNT = Built(IdempotencyKey.select(statements.count(IdempotencyKey.key)).where(*_PATH, _IS_KEPT))
_PRUNE = Built(
    IdempotencyKey.delete().where(
        row_in(
            _PLACE,
            IdempotencyKey.select(*_PLACE)
            .where(IdempotencyKey.created_at <= ago("seconds"))
            .order_by(IdempotencyKey.created_at)
            .limit(param("most")),
        )
    )
)


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
    row = tx.one(_TASK_OF, seconds=KEPT_SECONDS, **_place(key))
    if row is None or not row["is_kept"]:
        return None
    if row["body_hash"] != key.body_hash:
        raise KeyReused
    return task_views.get(tx, row["task_id"], key.user)


def keep(tx: Transaction, key: Key, task_id: str) -> None:
    """Store the task under the key, in place of an expired entry."""
    tx.execute(_KEEP, **_place(key), body_hash=key.body_hash, task_id=task_id)


def count(tx: Transaction, user: str, method: str, path: str) -> int:
    """How many keys of a user are kept for exactly this path."""
    return int(tx.value(_COUNT, user_openid=user, method=method, path=path, seconds=KEPT_SECONDS))


def prune(tx: Transaction, most: int) -> int:
    """Delete expired keys; how many."""
    return tx.run(_PRUNE, seconds=KEPT_SECONDS, most=most)


def _place(key: Key) -> dict[str, str]:
    """The identity of a key, as parameters."""
    return dict(zip(("user_openid", "method", "path", "key"), key.place, strict=True))
