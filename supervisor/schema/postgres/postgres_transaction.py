"""One transaction on its own connection, for a change of a whole PostgreSQL schema: all of it, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import peewee
import psycopg

from supervisor.core.errors import DatabaseBusy, SettingFault
from supervisor.database.postgres.connection import open_raw
from supervisor.database.postgres.connection_refusals import in_words, is_wrong_setting


class SchemaDatabase(peewee.PostgresqlDatabase):
    """A peewee database of one connection with our values, for one thread."""

    def __init__(self, url: str) -> None:
        super().__init__(url, prefer_psycopg3=True, thread_safe=False, autoconnect=False)
        self._url = url

    def _connect(self) -> Any:
        raw = open_raw(self._url)
        raw.execute("SET timezone = 'UTC'")
        return raw


@contextlib.contextmanager
def one_transaction(url: str, complaint: str) -> Iterator[SchemaDatabase]:
    """A connection with a transaction that is committed at the end of the block, or rolled back by an exception.

    complaint: the beginning of the sentence about a database fault.  Raises SettingFault, and DatabaseBusy if the
    server is away or can't do it now: try again.
    """
    database = SchemaDatabase(url)
    try:
        database.connect()
        with database.atomic():
            yield database
    except (peewee.PeeweeException, psycopg.Error) as error:
        operational = isinstance(error, peewee.OperationalError | psycopg.OperationalError)
        passes = operational and not is_wrong_setting(error)
        fault = DatabaseBusy if passes else SettingFault
        raise fault(f"{complaint}: {in_words(error)}.") from error
    finally:
        database.close()
