"""Finished results: an attempt records each durable file, so that the next attempt of the charge finds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence, Set
from typing import Any, NamedTuple

from supervisor.core.shown_images import keys_of
from supervisor.database.interface.database import Row, Transaction
from supervisor.schema import tables
from supervisor.schema.statements import Built, each_of, new_row, param
from supervisor.store.sql.rows import decoded, encoded

FIRST_FILE = 10_000  # numbers of other files begin here; no two requests use the same one
FILES_OF_A_PICTURE = 100
FIRST_DATA = 1_000_000


_FILE = tables.ResultFile
_ADD = Built(
    new_row(
        _FILE,
        "task_id",
        "charge",
        "params_hash",
        "n",
        "key",
        "sha256",
        "width",
        "height",
        "thumbnail",
        "about",
        "step",
    ).on_conflict_ignore()
)
_KEYS = Built(_FILE.select(_FILE.key, _FILE.thumbnail).where(_FILE.task_id.in_(each_of("ids"))))
_FOUND = Built(
    _FILE.select(_FILE.n, _FILE.key, _FILE.sha256, _FILE.width, _FILE.height, _FILE.thumbnail, _FILE.about)
    .where(
        _FILE.task_id == param("task_id"),
        _FILE.charge == param("charge"),
        _FILE.params_hash == param("params_hash"),
    )
    .order_by(_FILE.n)
)


@dataclasses.dataclass(frozen=True)
class ResultFile:
    """Picture n (from 0) of a charge; width, height in pixels.  thumbnail: {"key", "width", "height"}, or None.

    about: for a result that is not a picture; n is then FIRST_FILE or more, width and height are 0.  {"file": as users
    see it} or {"data": the JSON, or null if it is large}, and "of": the ordered pictures in whose place it came, if its
    request made no picture.
    """

    n: int
    key: str
    sha256: str
    width: int
    height: int
    thumbnail: dict[str, Any] | None = None
    about: dict[str, Any] | None = None

    def shown(self) -> dict[str, Any]:
        """The picture's entry in `images` of the task and its work."""
        image = {"key": self.key, "width": self.width, "height": self.height}
        return image if self.thumbnail is None else {**image, "thumbnail": self.thumbnail}


class Found(NamedTuple):
    """The results of a charge, as users see them.

    replaced: the ordered pictures that came as files or data.  is_whole: nothing is missing, as an older program stored
    it."""

    images: list[dict[str, Any]]
    outputs: dict[str, Any] | None
    replaced: frozenset[int]
    is_whole: bool

    def missing_of(self, count: int, without: Set[int] = frozenset()) -> int:
        """The number of ordered pictures that are missing.  without: those whose requests make none."""
        return 0 if self.is_whole else max(0, count - len(self.images) - len(self.replaced | without))


def together(files: Iterable[ResultFile]) -> Found:
    """All results, in order."""
    ordered = sorted(files, key=lambda file: file.n)
    images = [file.shown() for file in ordered if file.about is None]
    outputs: dict[str, Any] = {}
    for file in ordered:
        about = file.about or {}
        if "file" in about:
            outputs.setdefault("files", []).append({"key": file.key, **about["file"]})
        elif "data" in about and "data" not in outputs:
            outputs["data"] = about["data"]
            if about["data"] is None:
                outputs["data_key"] = file.key
    abouts = [file.about for file in ordered if file.about is not None]
    replaced = frozenset(n for about in abouts for n in about.get("of", ()))
    return Found(
        images, outputs or None, replaced, any(about.get("whole") and "of" not in about for about in abouts)
    )


def add(
    tx: Transaction, task_id: str, charge: int, params_hash: str, file: ResultFile, *, step: int = 0
) -> None:
    """Record a picture that is durable already; the first row for a number wins."""
    tx.execute(
        _ADD,
        task_id=task_id, charge=charge, params_hash=params_hash, n=file.n, key=file.key, sha256=file.sha256,
        width=file.width, height=file.height,
        thumbnail=None if file.thumbnail is None else encoded(file.thumbnail),
        about=None if file.about is None else encoded(file.about), step=step,
    )  # fmt: skip


def keys(tx: Transaction, ids: str) -> list[str]:
    """The keys of all files of these tasks.  ids: as a JSON array."""
    return _keys(tx.all(_KEYS, ids=ids))


def usable_keys(tx: Transaction, ids: str) -> list[str]:
    """Those of these tasks' files that may still be used: by the charge that paid for them, if it can still complete,
    or by a retry that goes on after the steps that have made them.  Of a completed task, those of the last step, and of
    steps with `keep`."""
    return _keys(
        tx.all(
            f"""SELECT result_file.key, thumbnail FROM result_file
                JOIN task_queue ON task_queue.id = result_file.task_id
                JOIN works ON works.task_id = result_file.task_id
                WHERE {tx.is_one_of("result_file.task_id", ":ids")}
                  AND (task_queue.status <> 'completed' OR result_file.step = task_queue.last_step
                    OR CAST(task_queue.steps -> result_file.step -> 'keep' AS TEXT) = 'true')
                  AND (result_file.charge = task_queue.charge AND task_queue.status NOT IN ('failed','cancelled')
                    OR EXISTS (SELECT 1 FROM task_step WHERE task_step.task_id = result_file.task_id
                        AND task_step.step = result_file.step AND task_step.params_hash = result_file.params_hash
                        AND task_step.lost = 0))""",
            ids=ids,
        )
    )


def _keys(rows: Sequence[Row]) -> list[str]:
    return list(keys_of({**row, "thumbnail": decoded(row["thumbnail"])} for row in rows))


def found(tx: Transaction, task_id: str, charge: int, params_hash: str) -> list[ResultFile]:
    """The pictures of a charge that exist already, in order."""
    rows = tx.all(_FOUND, task_id=task_id, charge=charge, params_hash=params_hash)
    return [
        ResultFile(**{**row, "thumbnail": decoded(row["thumbnail"]), "about": decoded(row["about"])})
        for row in rows
    ]
