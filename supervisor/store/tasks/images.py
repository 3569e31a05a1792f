"""Uploaded pictures: the owner and the file store's key of each upload."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from supervisor.core.task_params import INPUT_KINDS, inputs_in, is_url
from supervisor.database.interface.database import Transaction
from supervisor.schema.statements import Built, new_row
from supervisor.schema.tables import Image
from supervisor.store.sql.rows import encoded

_ADD = Built(
    new_row(Image, "id", "user_openid", "key", "width", "height", "bytes", "sha256", "media_type", "name")
)


@dataclasses.dataclass(frozen=True)
class NewImage:
    """An upload that is already durable in the file store.  width, height in pixels.

    media_type, name: of an upload that is not a picture; its width and height are 0."""

    id: str
    user: str
    key: str
    width: int
    height: int
    bytes: int
    sha256: str
    media_type: str | None = None
    name: str | None = None


def add(tx: Transaction, image: NewImage) -> None:
    """Record an upload."""
    tx.execute(
        _ADD,
        id=image.id, user_openid=image.user, key=image.key, width=image.width, height=image.height, bytes=image.bytes,
        sha256=image.sha256, media_type=image.media_type, name=image.name,
    )  # fmt: skip


def key_of(tx: Transaction, upload_id: str) -> str | None:
    """The key of an upload; None if there is none."""
    key = tx.value("SELECT key FROM image WHERE id = :id", id=upload_id)
    return None if key is None else str(key)


class KeptInput(NamedTuple):
    """An upload that a task names and that is still kept.  kind: of input.  media_type: None for a picture."""

    id: str
    kind: str
    key: str
    name: str | None
    media_type: str | None
    width: int
    height: int


def inputs_of(tx: Transaction, user: str, params: Mapping[str, Any]) -> list[KeptInput]:
    """The uploads of the user among the inputs that params name, in their order; without those that are gone."""
    named = [(kind, entry) for kind, entry in inputs_in(params) if not is_url(entry)]
    rows = tx.all(
        f"""SELECT id, key, name, media_type, width, height FROM image
            WHERE {tx.is_one_of("id", ":ids")} AND user_openid = :user AND expired_at IS NULL""",
        ids=encoded(sorted({entry for _, entry in named})), user=user,
    )  # fmt: skip
    known = {row["id"]: row for row in rows}
    return [KeptInput(kind=kind, **known[entry]) for kind, entry in named if entry in known]


def note_use(tx: Transaction, uses: Iterable[tuple[str, str]]) -> None:
    """Record that tasks name these uploads: (upload's id, task's id).  They are kept as long as the task's work."""
    pairs = sorted(set(uses))
    if pairs:
        tx.send(
            f"""INSERT INTO image_use (image_id, task_id)
                SELECT value ->> 0, value ->> 1 FROM {tx.rows(":pairs")} AS used WHERE 1 = 1
                ON CONFLICT (image_id, task_id) DO NOTHING""",
            pairs=encoded(pairs),
        )


def keys(tx: Transaction) -> str:
    """SQL for [[id, key]] of the uploads that a row of `task_queue` names, if they belong to its user; or NULL."""
    group, array = tx.dialect.json_group, tx.dialect.json_array
    entries = (tx.dialect.texts_of.format(column="task_queue.params", name=kind) for kind in INPUT_KINDS)
    named = " UNION ALL ".join(f"SELECT value FROM {each} AS of_kind" for each in entries)
    return f"""(SELECT {group}({array}(image.id, image.key)) FROM ({named}) AS named
        JOIN image ON image.id = named.value WHERE image.user_openid = task_queue.user_openid)"""
