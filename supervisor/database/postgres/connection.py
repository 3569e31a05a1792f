"""One connection to PostgreSQL: its time-outs notice a dead peer in seconds, and once lost it is closed for good.

Behind a pooler in transaction mode (PgBouncer) no session state is kept, so statements are not prepared and the
time-outs are set in each transaction.  `pooled` says that there is a pooler; a pooler that the settings do not name is
detected because another server process answers than the one named at login.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import psycopg
from psycopg.conninfo import conninfo_to_dict

from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import Parameters
from supervisor.database.postgres.connection_refusals import in_words, is_wrong_setting
from supervisor.database.postgres.errors import GIVEN_UP, is_of_a_lost_connection, sqlstate
from supervisor.database.postgres.pipeline import Answer, Exchange, Statement
from supervisor.database.postgres.sql import adapt

STATEMENT_SECONDS = 30
# Our transactions never idle: an idle one belongs to a frozen process, and it blocks rows that others need.  Each
# writer thread may have one, each waiting for the one before it, and all must end within LEASE_SECONDS.
IDLE_IN_TRANSACTION_SECONDS = 4
_TIMEOUTS = {
    "statement_timeout": STATEMENT_SECONDS * 1000,
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS * 1000,
}
# A silent peer is given up after about 6 seconds, by us and by the server, so that the locks of a host that was cut off
# are gone before its tasks are rescued.  Both kinds are needed: with an answer on its way TCP sends no keepalives.
KEEPALIVE = {"keepalives_idle": 3, "keepalives_interval": 1, "keepalives_count": 3}
UNACKNOWLEDGED_MS = 6_000
# A statement that was prepared, or stands in a trigger, keeps its plan.  Planned while the tables are nearly empty, it
# reads them whole, and goes on to do so when they have grown, until the server's next ANALYZE.  So indexes are
# preferred where there are any (a preference that must not lead to compiling), and a busy connection plans anew.
_PLANS = [f"SET {name} = off" for name in ("enable_seqscan", "enable_bitmapscan", "jit")]
_PLANS_ANEW_FROM = 32  # at this transaction of a connection, and at each doubling of their number
_SESSION = "; ".join(
    [
        "SET timezone = 'UTC'",
        *_PLANS,
        *(f"SET {name} = {value}" for name, value in _TIMEOUTS.items()),
        *(f"SET tcp_{name} = {value}" for name, value in KEEPALIVE.items()),
        f"SET tcp_user_timeout = {UNACKNOWLEDGED_MS}",
        # a server's own limit would end a connection that only waits
        (MAY_BE_IDLE := "SET idle_session_timeout = 0"),
    ]
)
CONNECT_SECONDS = 5
_MARK = """INSERT INTO commit_mark (writer, number)
    SELECT CAST(:writer AS BIGINT), CAST(:number AS BIGINT) WHERE pg_current_xact_id_if_assigned() IS NOT NULL
    ON CONFLICT (writer) DO UPDATE SET number = excluded.number, marked_at = excluded.marked_at"""
_FORGET_OLD_MARKS = "DELETE FROM commit_mark WHERE marked_at < clock_timestamp() - interval '1 day'"


def connect_parameters(url: str) -> dict[str, Any]:
    """Options for libpq besides the address; options of the address itself come first."""
    path = Path(sys.argv[0] if sys.argv and sys.argv[0] else "python")
    program = path.parent.name if path.stem == "__main__" else path.stem
    wanted: dict[str, Any] = {
        "application_name": f"darkroom {program} {os.getpid()}",
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": UNACKNOWLEDGED_MS,
        **KEEPALIVE,
    }
    given = conninfo_to_dict(url)
    return {name: value for name, value in wanted.items() if name not in given}


def connection_trouble(url: str) -> psycopg.Error | None:
    """Why a connection can't be had, tried once; None when it can."""
    try:
        psycopg.connect(url, **connect_parameters(url)).close()
    except psycopg.Error as error:
        return error
    return None


def refuse_wrong_address(url: str) -> None:
    """Raises SettingFault for a refusal that waiting does not mend; a server that is away passes."""
    error = connection_trouble(url)
    if error is not None and is_wrong_setting(error):
        raise SettingFault(f"The database can't be used: {in_words(error)}.")


def _is_behind_a_pooler(raw: psycopg.Connection[Any]) -> bool:
    (answering,) = raw.execute("SELECT pg_backend_pid()", prepare=False).fetchone() or (0,)
    return bool(answering != raw.info.backend_pid)


@contextlib.contextmanager
def open_session(url: str) -> Iterator[psycopg.Connection[Any] | None]:
    """A session that may be kept for as long as the block runs, each statement committed; None behind a pooler.

    Raises psycopg.Error when it can't be had.
    """
    with contextlib.closing(psycopg.connect(url, autocommit=True, **connect_parameters(url))) as raw:
        if _is_behind_a_pooler(raw):
            yield None
        else:
            raw.execute(_SESSION)
            yield raw


class Connection(peewee.PostgresqlDatabase):
    """A peewee database of exactly one connection, for one thread at a time.  It is never reopened."""

    def __init__(self, url: str, *, pooled: bool) -> None:
        super().__init__(url, prefer_psycopg3=True, thread_safe=False, autoconnect=False)
        self._url, self._pooled = url, pooled
        # No other code uses this lock: while the server holds it, it shows that a transaction is open.
        self.writer = secrets.randbits(63)
        self.number = 0

    def _connect(self) -> Any:
        raw = psycopg.connect(self._url, autocommit=True, **connect_parameters(self._url))
        adapt(raw)
        self._pooled = self._pooled or _is_behind_a_pooler(raw)
        limits = [f"SET LOCAL {name} = {value}" for name, value in _TIMEOUTS.items()]
        self._limits = limits if self._pooled else []
        raw.prepare_threshold = None  # the exchange prepares statements itself
        # Poolers carry the time zone along.
        raw.execute("SET timezone = 'UTC'" if self._pooled else _SESSION)
        self._exchange = Exchange(raw, prepares=not self._pooled)
        return raw

    def begin_writing(self) -> None:
        """Begin; the transaction is this connection's `number`th, by which its outcome can be learnt later."""
        if not self.number:
            self.answer(self.hand_in(_FORGET_OLD_MARKS))
        self.number += 1
        self._begin("BEGIN")
        if not self._pooled and self.number >= _PLANS_ANEW_FROM and self.number.bit_count() == 1:
            self.hand_in("DISCARD PLANS")
        self.hand_in("SELECT pg_advisory_xact_lock(:writer)", {"writer": self.writer})

    def begin_reading(self) -> None:
        """Begin a read of one moment."""
        self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def hand_in(self, sql: str, values: Parameters = ()) -> Statement:
        """A statement that is sent when its answer, or a later one's, is wanted."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # a value may be none that can be stored
            return self._exchange.hand_in(sql, values)

    def answer(self, statement: Statement) -> Answer:
        """What the server says to it.  Raises peewee's errors."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            return self._exchange.answer(statement)

    def execute_sql(self, sql: Any, params: Any = None) -> Any:
        """A statement of peewee's own, after whatever was handed in before."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            self._exchange.send()
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]

    def commit_marked(self) -> None:
        """Commit, and in the same transaction note its number, if it has written anything at all.

        Raises InternalError for a step that went on after an error: the server has rolled it back already.
        """
        self.hand_in(_MARK, {"writer": self.writer, "number": self.number})
        try:
            self.answer(self.hand_in("COMMIT"))
        except peewee.InternalError as error:
            if sqlstate(error) == GIVEN_UP:
                raise peewee.InternalError(
                    "A step went on after an error in one of its statements."
                ) from error
            raise

    def end_reading(self) -> None:
        """End a read of one moment."""
        self.answer(self.hand_in("COMMIT"))

    def has_committed(self, writer: int, number: int) -> bool:
        """Whether a writer's transaction was committed; waits until the server has finished it."""
        with peewee.__exception_wrapper__, self._raw().transaction():  # type: ignore[attr-defined]
            self._raw().execute("SELECT pg_advisory_xact_lock(%s)", (writer,), prepare=False)
            row = (
                self._raw()
                .execute("SELECT number FROM commit_mark WHERE writer = %s", (writer,), prepare=False)
                .fetchone()
            )
        return row is not None and int(row[0]) == number

    def take_back(self) -> None:
        """Roll back, and drop unsent statements; a connection that can't roll back is closed."""
        try:
            if not self.is_lost:
                with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
                    self._exchange.roll_back()
        except peewee.PeeweeException:
            self.close()

    @property
    def is_lost(self) -> bool:
        return self.is_closed() or bool(self._raw().closed)

    def note(self, error: BaseException) -> None:
        """Close the connection after an error that makes it unusable."""
        if is_of_a_lost_connection(error) and not self.is_closed():
            self.close()

    def _raw(self) -> psycopg.Connection[Any]:
        raw: psycopg.Connection[Any] = self.connection()  # type: ignore[no-untyped-call]
        return raw

    def _begin(self, begin: str) -> None:
        for statement in (begin, *self._limits):
            self.hand_in(statement)
