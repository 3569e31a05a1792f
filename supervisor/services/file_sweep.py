"""The sweep's work on the file store: delete queued files, and search for files that no row names.

The search goes through the store once a day, a few thousand keys a minute.  It queues files for deletion that are ours
by their name, old, and named by no row: a process died between the object and its row.  It never begins in a store with
another database's mark, so a fresh database pointed at a full bucket deletes nothing.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import structlog

from config.settings import Settings
from supervisor.core.throttle import Throttle
from supervisor.database.interface.database import Database
from supervisor.objects.object_store import FileStore
from supervisor.store.retention import ageing, deletion_queue, orphan_scan
from supervisor.store.retention.orphan_scan import OrphanScan

log = structlog.get_logger(__name__)

DELETED_AT_ONCE = 50
LOOKED_AT_ONCE = 500
HALF_WRITTEN_SECONDS = 3600.0
DAY_SECONDS = 86_400.0

SIGNATURE = "darkroom-store-id.txt"
# Files of others beside our folders are left alone.
FOLDERS = ("inputs", "results", "uploads")


def delete_doomed(database: Database, files: FileStore, throttle: Throttle) -> int:
    """Delete the queued objects; how many.  Raises StoreAway, OSError: the next sweep goes on."""

    def batch() -> int:
        keys = database.read(lambda tx: deletion_queue.next_keys(tx, DELETED_AT_ONCE))
        for key in keys:
            files.delete(key)
        if keys:
            database.write(lambda tx: deletion_queue.forget(tx, keys)).result()
        return len(keys)

    return throttle.repeat(batch)


def doom_orphans(database: Database, settings: Settings, files: FileStore, throttle: Throttle) -> int:
    """Continue the search for files that no row names; how many were found.  Raises StoreAway, OSError."""
    if not settings.retention.orphan_days:
        return 0
    walk = database.read(orphan_scan.under_way)
    if walk is None or not _is_ours(files, walk):
        return 0
    if not walk.after:
        database.write(orphan_scan.begin).result()
        files.tidy(HALF_WRITTEN_SECONDS)
    listing = _listing(files, walk.after)
    found = 0

    def batch() -> int:
        nonlocal found
        listed = list(itertools.islice(listing, LOOKED_AT_ONCE))
        old = [key for key, age_seconds in listed if age_seconds > _oldest_in_use(settings, key)]
        if old:
            found += database.write(lambda tx: ageing.doom_orphans(tx, old)).result()
        after = listed[-1][0] if len(listed) == LOOKED_AT_ONCE else ""
        database.write(lambda tx: orphan_scan.note(tx, after)).result()
        return len(listed) if after else 0

    throttle.repeat(batch)
    return found


def _listing(files: FileStore, after: str) -> Iterator[tuple[str, float]]:
    """(key, age in seconds) of all our files after this key."""
    for folder in FOLDERS:
        if after < f"{folder}0":  # 0 follows the slash
            for each in files.listing(folder, after if after > f"{folder}/" else ""):
                yield each.key, each.age_seconds


def _oldest_in_use(settings: Settings, key: str) -> float:
    """The age in seconds from which an object counts as an orphan."""
    grace = settings.retention.orphan_days * DAY_SECONDS
    if key.startswith("inputs/"):  # these have no rows; a service may fetch them while their task is open
        return grace + max(
            each.expire_seconds + each.remote_limit_seconds for each in settings.tasks.values()
        )
    return grace


def _is_ours(files: FileStore, walk: OrphanScan) -> bool:
    """Whether the store has our mark; a store without a mark gets ours."""
    try:
        opened = files.open(SIGNATURE)
    except FileNotFoundError:
        files.put(SIGNATURE, io.BytesIO(walk.store_id.encode()))
        return True
    try:
        signature = opened.read(100).decode(errors="replace").strip()
    finally:
        opened.close()
    if signature != walk.store_id:
        log.error(
            "store_of_another_database",
            reason=f"The file store was signed by another database ({SIGNATURE}), so no file is searched for that "
            "has no row here.  Give this database a store of its own, or delete that file if the other is no more.",
        )
    return signature == walk.store_id
