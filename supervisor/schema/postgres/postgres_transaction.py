"""One transaction on its own connection, for a change of a whole PostgreSQL schema: all of it, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import peewee
import psycopg

from supervisor.core.errors import DatabaseBusy, SettingFault
from supervisor.database.postgres.connection import Connection
from supervisor.database.postgres.connection_refusals import in_words, is_wrong_setting


@contextlib.contextmanager
def one_transaction(url: str, complaint: str) -> Iterator[Connection]:
    """A connection with a transaction that is committed at the end of the block, or rolled back by an exception.

    complaint: the beginning of the sentence about a database fault.  Raises SettingFault, and DatabaseBusy if the
    server is away or can't do it now: try again.
    """
    database = Connection(url, pooled=True)  # no session state is needed
    try:
        database.connect()
        with database.atomic():
            yield database
    except (peewee.PeeweeException, psycopg.Error) as error:
        passes = isinstance(error, peewee.OperationalError) and not is_wrong_setting(error)
        fault = DatabaseBusy if passes else SettingFault
        raise fault(f"{complaint}: {in_words(error)}.") from error
    finally:
        database.close()
