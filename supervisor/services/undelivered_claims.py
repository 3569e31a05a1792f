"""Claims that never reached their worker: they are taken out of its list and put back.

The lists of a dead worker are emptied before its rows are judged.  The worker can't have begun claims in its lists, so
no death is counted for these tasks.  Any other task may have killed it.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from config.settings import Settings
from supervisor.broker.claim_lists import ClaimLists, open_lists
from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import Database
from supervisor.store.queue import workers
from supervisor.store.sql.locks import AT_ONCE_SECONDS
from supervisor.store.tasks import remote_wait

log = structlog.get_logger(__name__)


def take_back(database: Database, lists: ClaimLists, worker_id: str, *, popped: bool) -> int:
    """Put back the claims in a worker's lists; how many.  Raises redis.RedisError, OSError, Fault.

    popped: also messages that it has popped and does not own.
    """
    found = lists.take(worker_id, popped=popped)
    if found:
        given = database.write_now(lambda tx: remote_wait.take_back(tx, found), lock_seconds=AT_ONCE_SECONDS)
        log.warning("claims_taken_back", worker=worker_id, count=given)
    lists.forget(worker_id)
    return len(found)


def empty_lists(database: Database, lists: ClaimLists, worker_ids: Iterable[str]) -> None:
    """Put back claims in the lists of dead workers.  While the broker is away, these are unknown.  Raises Fault."""
    from redis import RedisError  # which most programs do not need

    from supervisor.broker.broker_errors import in_words

    for worker_id in worker_ids:
        try:
            take_back(database, lists, worker_id, popped=False)
            lists.forget_worker(worker_id)
        except (RedisError, OSError) as error:
            log.warning("lists_not_emptied", worker=worker_id, reason=in_words(error))


def empty_lists_of_the_dead(database: Database, settings: Settings) -> None:
    """The same for all workers that are marked dead now.  Raises Fault."""
    dead = database.read(lambda tx: workers.dead(tx).get())
    if not dead:
        return
    try:
        lists = open_lists(settings)
    except (SettingFault, OSError, ValueError) as error:
        log.warning("lists_not_emptied", reason=str(error))
        return
    try:
        empty_lists(database, lists, dead)
    finally:
        lists.close()
