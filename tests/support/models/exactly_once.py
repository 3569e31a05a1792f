"""The promises that hold in a database after any faults, read by plain SQL without our code."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import psycopg

OPEN_TASKS = "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"

# Each finds the rows that break its name's claim, when all tasks should have completed.
_WRONG = {
    "a task did not end completed": "SELECT id, status, error FROM task_queue WHERE status <> 'completed'",
    "a task was not debited once a picture": """SELECT id FROM task_queue AS task WHERE picture_count <> (
        SELECT coalesce(-sum(amount), 0) FROM credit_entry WHERE task_id = task.id AND kind = 'debit')""",
    "a completed task was refunded": "SELECT task_id FROM credit_entry WHERE kind = 'refund'",
    "a balance is not the sum of its ledger": """SELECT user_openid FROM account WHERE balance <> (
        SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE user_openid = account.user_openid)""",
    "a feed told of an end twice, or not": """SELECT task.id FROM task_queue AS task WHERE 1 <> (
        SELECT count(*) FROM work_change WHERE doc_id = task.work_id AND data_type = 'update'
            AND doc->>'status' = 'completed')""",
    "a feed has a gap": """SELECT user_openid FROM work_change GROUP BY user_openid
        HAVING min(seq) <> 1 OR max(seq) <> count(*)
            OR max(seq) <> (SELECT seq FROM account WHERE account.user_openid = work_change.user_openid)""",
}


def faults_in(url: str) -> dict[str, list[Any]]:
    """The broken claims in a database in which all tasks must have completed: {claim: rows}, empty if none."""
    found = {claim: asked(url, sql) for claim, sql in _WRONG.items()}
    return {claim: rows for claim, rows in found.items() if rows}


def asked(url: str, sql: str) -> list[Any]:
    """The rows of a query.  url: of a PostgreSQL database, or `sqlite:///` and the path of a file."""
    connection: Any
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=15)
    else:
        connection = psycopg.connect(url, autocommit=True)
    with contextlib.closing(connection):
        return list(connection.execute(sql).fetchall())
