"""Finished pictures: what an attempt has made durable, so that the next attempt of the charge finds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from supervisor.core.shown_images import keys_of
from supervisor.database.interface.database import Row, Transaction
from supervisor.store.sql.rows import decoded, encoded


@dataclasses.dataclass(frozen=True)
class ResultFile:
    """Picture n (from 0) of a charge; width, height in pixels.  thumbnail: {"key", "width", "height"}, or None."""

    n: int
    key: str
    sha256: str
    width: int
    height: int
    thumbnail: dict[str, Any] | None = None

    def shown(self) -> dict[str, Any]:
        """As the task and its work have it among their images."""
        image = {"key": self.key, "width": self.width, "height": self.height}
        return image if self.thumbnail is None else {**image, "thumbnail": self.thumbnail}


def add(tx: Transaction, task_id: str, charge: int, params_hash: str, file: ResultFile) -> None:
    """Record a picture that is durable already; of two for the same place the first row wins."""
    tx.execute(
        """INSERT INTO result_file (task_id, charge, params_hash, n, key, sha256, width, height, thumbnail)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
        task_id, charge, params_hash, file.n, file.key, file.sha256, file.width, file.height,
        None if file.thumbnail is None else encoded(file.thumbnail),
    )  # fmt: skip


def keys(tx: Transaction, ids: str) -> list[str]:
    """Of every file of these tasks.  ids: as a JSON array."""
    return _keys(tx.all(f"SELECT key, thumbnail FROM result_file WHERE task_id IN {tx.dialect.each_of}", ids))


def usable_keys(tx: Transaction, ids: str) -> list[str]:
    """Of these tasks' files, those that may still be used: by the charge that paid for them, if it may end well."""
    return _keys(
        tx.all(
            f"""SELECT result_file.key, thumbnail FROM result_file
                JOIN task_queue ON task_queue.id = result_file.task_id
                JOIN works ON works.task_id = result_file.task_id
                WHERE result_file.task_id IN {tx.dialect.each_of} AND result_file.charge = task_queue.charge
                  AND task_queue.status NOT IN ('failed','cancelled')""",
            ids,
        )
    )


def _keys(rows: Sequence[Row]) -> list[str]:
    return list(keys_of({**row, "thumbnail": decoded(row["thumbnail"])} for row in rows))


def found(tx: Transaction, task_id: str, charge: int, params_hash: str) -> list[ResultFile]:
    """The pictures of a charge that exist already, in order."""
    rows = tx.all(
        """SELECT n, key, sha256, width, height, thumbnail FROM result_file
            WHERE task_id = ? AND charge = ? AND params_hash = ? ORDER BY n""",
        task_id, charge, params_hash,
    )  # fmt: skip
    return [ResultFile(**{**row, "thumbnail": decoded(row["thumbnail"])}) for row in rows]
