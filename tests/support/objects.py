"""Objects put into a file store."""

from __future__ import annotations

import io

from supervisor.objects.object_store import FileStore


def put_bytes(files: FileStore, key: str, data: bytes) -> None:
    """Store an object."""
    files.put(key, io.BytesIO(data))
