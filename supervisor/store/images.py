"""Uploaded pictures: who owns which object of the file store."""

from __future__ import annotations

import dataclasses

from supervisor.database import Row, Transaction


@dataclasses.dataclass(frozen=True)
class NewImage:
    """An upload that is already durable in the file store.  width, height in pixels."""

    id: str
    user: str
    key: str
    width: int
    height: int
    bytes: int
    sha256: str


def add(tx: Transaction, image: NewImage) -> None:
    """Record an upload."""
    tx.execute(
        "INSERT INTO image (id, user_openid, key, width, height, bytes, sha256) VALUES (?, ?, ?, ?, ?, ?, ?)",
        image.id, image.user, image.key, image.width, image.height, image.bytes, image.sha256,
    )  # fmt: skip


def get(tx: Transaction, image_id: str, user: str) -> Row | None:
    """The user's own upload, or None."""
    return tx.one("SELECT * FROM image WHERE id = ? AND user_openid = ?", image_id, user)


def keys(tx: Transaction, user: str, image_ids: list[str]) -> dict[str, str]:
    """{id: key} of those that are the user's own uploads."""
    marks = ",".join("?" * len(image_ids))
    rows = tx.all(f"SELECT id, key FROM image WHERE user_openid = ? AND id IN ({marks})", user, *image_ids)
    return {row["id"]: row["key"] for row in rows}
