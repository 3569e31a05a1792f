"""Checks of `darkroom doctor` of the PostgreSQL server itself."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator

from config.settings import Settings
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.postgres.connection import connection_trouble
from supervisor.database.postgres.connection_refusals import in_words
from supervisor.database.postgres.postgres_wakeups import PROBE_SECONDS, PostgresWakeups

OLDEST = 140_000
PARTS_WITHOUT_WORKERS = 4  # web, dispatcher, scheduler with its control worker, supervisor
MOST_SKEW_SECONDS = 2.0
LISTENERS = 2  # of the web and of the dispatcher


def connection_sentence(settings: Settings) -> str | None:
    """What is wrong with the connection to the server; None if it works.  Tried once, without waiting."""
    error = connection_trouble(settings.database_url)
    return None if error is None else f"The database can't be used: {in_words(error)}."


def examine_server(database: Database, settings: Settings) -> Iterator[tuple[str, bool, str]]:
    """(part, whether it is well, a sentence) for each check.  Changes nothing."""

    def ask(tx: Transaction) -> tuple[int, str, int, int]:
        return (
            int(tx.value("SELECT current_setting('server_version_num')")),
            str(tx.value("SHOW server_version")),
            int(tx.value("SHOW max_connections")),
            int(tx.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")),
        )

    number, version, most, used = database.read(ask)
    if number < OLDEST:
        yield "server", False, f"PostgreSQL {version} is too old; take 14 or newer."
    else:
        yield "server", True, f"PostgreSQL {version}"
    yield examine_clock(database)
    parts = settings.worker_processes + PARTS_WITHOUT_WORKERS
    wanted = parts * settings.database_connections + LISTENERS
    here = f"one host's {parts} processes may open {wanted} connections"
    if wanted > most:
        yield (
            "connections",
            False,
            f"{here}, but the server takes {most}; raise max_connections, lower DARKROOM_DATABASE_CONNECTIONS, or put "
            "a pooler between.",
        )
    else:
        yield "connections", True, f"{here}; the server takes {most} and has {used}"
    if _hears(settings.database_listen_url or settings.database_url):
        yield "listener", True, "notifications arrive"
    else:
        yield (
            "listener",
            False,
            "Notifications don't arrive; DARKROOM_DATABASE_LISTEN_URL must lead to the server itself, past any pooler "
            "in transaction mode.",
        )


def examine_clock(database: Database) -> tuple[str, bool, str]:
    """Whether this host's clock agrees with the database's, within the time of a round trip."""
    before = time.time()
    theirs = datetime.datetime.fromisoformat(database.read(lambda tx: tx.value(f"SELECT {tx.now}")))
    after = time.time()
    ahead = (before + after) / 2 - theirs.timestamp()
    if abs(ahead) - (after - before) / 2 <= MOST_SKEW_SECONDS:
        return "clock", True, "this host's clock agrees with the database's"
    where = "ahead of" if ahead > 0 else "behind"
    return (
        "clock",
        False,
        f"This host's clock is {abs(ahead):.1f} s {where} the database's, and tokens and links are judged by it; "
        "switch on time synchronisation (NTP) on both.",
    )


def _hears(url: str) -> bool:
    wakeups = PostgresWakeups(url, "darkroom_dispatch")
    try:
        end = time.monotonic() + 2 * PROBE_SECONDS
        while not wakeups.is_listening and time.monotonic() < end:
            wakeups.wait(end - time.monotonic())
            if wakeups.has_tried:
                break
        return wakeups.is_listening
    finally:
        wakeups.close()
