"""One connection to PostgreSQL: its time-outs notice a dead peer in seconds, and once lost it is closed for good.

A statement is queued, and sent together with all queued ones when the first of their answers is needed
(`supervisor.database.postgres.exchange`).  So one exchange has BEGIN and all queries up to the first answer, and one
has all writes with unread answers and COMMIT.  Nothing is sent before that: between two statements of a pipeline none
of the server's time-outs runs, so the locks of a process that froze there would be held until it thaws.

Behind a pooler in transaction mode (PgBouncer) no session state is kept, so statements are not prepared and the
time-outs are set in each transaction.  `pooled` says that there is a pooler; a pooler that the settings do not name is
detected because another server process answers than the one named at login.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import Parameters
from supervisor.database.interface.errors import InternalError, sqlstate
from supervisor.database.postgres.connection_refusals import in_words, is_wrong_setting
from supervisor.database.postgres.errors import GIVEN_UP, NAMED_ERRORS, is_of_a_lost_connection
from supervisor.database.postgres.exchange import Answer, Exchanges
from supervisor.database.postgres.sql import adapt, numbered

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
_LOCK_WRITER = "SELECT pg_advisory_xact_lock(:writer)"
_BEGIN_WRITING = f"{_LOCK_WRITER}, set_config('lock_timeout', :lock_timeout, true)"
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


class Connection:
    """A connection, for one thread at a time.  It is never reopened.

    Every method that awaits an answer may raise the error of the first failed statement among those sent since the last
    answer, under the names of `supervisor.database.interface.errors`; the statements after it were not run.
    """

    def __init__(self, url: str, *, pooled: bool) -> None:
        # No other code uses this lock: while the server holds it, it shows that a transaction is open.
        self.writer = secrets.randbits(63)
        self.number = 0
        self._unanswered: list[Answer] = []
        with NAMED_ERRORS:
            self._raw = open_raw(url)
            with contextlib.ExitStack() as unless_ready:
                unless_ready.callback(self._raw.close)
                self._pooled = pooled or _is_behind_a_pooler(self._raw)
                # Poolers carry the time zone along.
                self._raw.execute("SET timezone = 'UTC'" if self._pooled else _SESSION)
                self._exchanges = Exchanges(self._raw, prepares=not self._pooled)
                unless_ready.pop_all()
        limits = [f"SET LOCAL {name} = {value}" for name, value in _TIMEOUTS.items()]
        self._limits = limits if self._pooled else []

    def begin_writing(self, lock_seconds: float) -> None:
        """Begin; the transaction is this connection's `number`th, by which its outcome can be learnt later.

        lock_seconds: a statement that waits so long for a lock fails.
        """
        if not self.number:
            self.execute(_FORGET_OLD_MARKS)
        self.number += 1
        self._begin("BEGIN")
        if not self._pooled and self.number >= _PLANS_ANEW_FROM and self.number.bit_count() == 1:
            self.hand_in("DISCARD PLANS")
        self.hand_in(
            _BEGIN_WRITING, {"writer": self.writer, "lock_timeout": f"{max(1, round(lock_seconds * 1000))}ms"}
        )

    def begin_reading(self) -> None:
        """Begin a read of one moment."""
        self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def hand_in(self, sql: str, values: Parameters = ()) -> Answer:
        """A statement, with `:name` or `?` for its values; its answer, to be read after `answer`.

        Raises DataError or UnicodeError for a value that can't be sent; those handed in before are not touched.
        """
        text, names = numbered(sql)
        ordered = [values[name] for name in names] if isinstance(values, Mapping) else values
        with NAMED_ERRORS:
            each = self._exchanges.statement(text, ordered)
        self._unanswered.append(each)
        return each

    def send_now(self) -> None:
        """Send the queued statements, and wait for nothing.

        Until an answer of the transaction was read, what follows a part that was sent must only read: where a cancel
        hits BEGIN, it is in no transaction.
        """
        several, self._unanswered = self._unanswered, []
        if several:
            with NAMED_ERRORS:
                self._exchanges.send(several)

    def answer(self, asked: Answer) -> Answer:
        """The statement with its answer, as have then all that were sent before or with it."""
        if asked.result is None:
            self.send_now()
            with NAMED_ERRORS:
                self._exchanges.read(asked)
                if asked.result is None:
                    raise psycopg.OperationalError("the answer was lost with its connection")
        return asked

    def execute(self, sql: str, values: Parameters = ()) -> Answer:
        """A statement's answer."""
        return self.answer(self.hand_in(sql, values))

    def commit_marked(self) -> None:
        """Commit, and in the same transaction note its number, if it has written anything at all.

        Raises InternalError for a step that went on after an error: the server has rolled it back already.
        """
        try:
            with NAMED_ERRORS:
                self._exchanges.read()  # had a part that was sent ahead failed at BEGIN, the rest would be stored
            self.hand_in(_MARK, {"writer": self.writer, "number": self.number})
            self.execute("COMMIT")
        except InternalError as error:
            if sqlstate(error) == GIVEN_UP:
                raise InternalError("A step went on after an error in one of its statements.") from error
            raise

    def end_reading(self) -> None:
        """End a read of one moment."""
        self.execute("COMMIT")

    def has_committed(self, writer: int, number: int) -> bool:
        """Whether a writer's transaction was committed; waits until the server has finished it."""
        self._begin("BEGIN")
        self.hand_in(_LOCK_WRITER, {"writer": writer})
        marked = self.hand_in("SELECT number FROM commit_mark WHERE writer = :writer", {"writer": writer})
        self.execute("COMMIT")
        row = marked.fetchone()
        return row is not None and int(row[0]) == number

    def take_back(self) -> None:
        """Roll back, and drop unsent statements; a connection that can't roll back is closed."""
        self._unanswered = []
        try:
            with contextlib.suppress(psycopg.Error):  # of a statement that nobody asks for any more
                self._exchanges.read()
            if not self.is_lost and self._raw.info.transaction_status != pq.TransactionStatus.IDLE:
                self._raw.execute("ROLLBACK", prepare=False)
        except psycopg.Error:
            self.close()

    @property
    def is_lost(self) -> bool:
        return self._raw.closed

    def note(self, error: BaseException) -> None:
        """Close the connection after an error that makes it unusable."""
        if is_of_a_lost_connection(error):
            self.close()

    def close(self) -> None:
        """Give it back to the server."""
        self._raw.close()

    def _begin(self, begin: str) -> None:
        for statement in (begin, *self._limits):
            self.hand_in(statement)


def open_raw(url: str) -> psycopg.Connection[Any]:
    """A connection in autocommit mode, with our values (`sql.adapt`).  Raises psycopg.Error."""
    raw = psycopg.connect(url, autocommit=True, **connect_parameters(url))
    adapt(raw)
    return raw
