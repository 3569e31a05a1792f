"""Claims that never reached their worker: they are taken out of its list and given to others.

Before the rows of a dead worker are judged its lists are emptied: what still lay in them it cannot have begun, so no
death is counted for those.  Everything else may have been what killed it.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from config.settings import Settings
from supervisor.broker.claim_lists import ClaimLists, open_lists
from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import Database
from supervisor.store.queue import workers
from supervisor.store.tasks import remote_wait

log = structlog.get_logger(__name__)


def take_back(database: Database, lists: ClaimLists, worker_id: str, *, popped: bool) -> int:
    """Give what lies in a worker's lists to others; how many claims.  Raises redis.RedisError, OSError, Fault.

    popped: also what it has popped and does not own.
    """
    found = lists.take(worker_id, popped=popped)
    if found:
        given = database.write_now(lambda tx: remote_wait.take_back(tx, found))
        log.warning("claims_taken_back", worker=worker_id, count=given)
    lists.forget(worker_id)
    return len(found)


def empty_lists(database: Database, lists: ClaimLists, worker_ids: Iterable[str]) -> None:
    """Take back what dead workers never had.  While the broker is away nobody knows what that is.  Raises Fault."""
    from redis import RedisError  # which most programs do not need

    from supervisor.broker.broker_errors import in_words

    for worker_id in worker_ids:
        try:
            take_back(database, lists, worker_id, popped=False)
            lists.forget_worker(worker_id)
        except (RedisError, OSError) as error:
            log.warning("lists_not_emptied", worker=worker_id, reason=in_words(error))


def empty_lists_of_the_dead(database: Database, settings: Settings) -> None:
    """The same of all that are marked dead now.  Raises Fault."""
    dead = database.read(workers.dead)
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
