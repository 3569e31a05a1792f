"""Finished pictures: what an attempt has made durable, so that the next attempt of the charge finds it."""

from __future__ import annotations

import dataclasses

from supervisor.database import Transaction


@dataclasses.dataclass(frozen=True)
class ResultFile:
    """Picture n (from 0) of a charge; width, height in pixels."""

    n: int
    key: str
    sha256: str
    width: int
    height: int


def add(tx: Transaction, task_id: str, charge: int, params_hash: str, file: ResultFile) -> None:
    """Record a picture that is durable already; of two for the same place the first row wins."""
    tx.execute(
        """INSERT INTO result_file (task_id, charge, params_hash, n, key, sha256, width, height)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
        task_id, charge, params_hash, file.n, file.key, file.sha256, file.width, file.height,
    )  # fmt: skip


def found(tx: Transaction, task_id: str, charge: int, params_hash: str) -> list[ResultFile]:
    """The pictures of a charge that exist already, in order."""
    rows = tx.all(
        """SELECT n, key, sha256, width, height FROM result_file
            WHERE task_id = ? AND charge = ? AND params_hash = ? ORDER BY n""",
        task_id, charge, params_hash,
    )  # fmt: skip
    return [ResultFile(**row) for row in rows]
