"""The triggers after a statement on PostgreSQL: works, ledger, change log, wake-ups.

Triggers run once a statement and see all of its rows.  Row triggers would raise an account's seq once for every row of
a bulk statement, and each time make a new version of the account's row (CORRECTNESS 26).
Locks are taken in one order, tasks, then works, then accounts by user, so that two statements can't deadlock (27).

Old and new rows are joined by FULL JOIN inside a subquery that can't be flattened, so the planner must use a hash join.
It plans a function's statements once, perhaps for a statement of one row, and a nested loop would be quadratic for a
later statement with ten thousand rows.
"""

from __future__ import annotations

from supervisor.schema.postgres import money_triggers
from supervisor.schema.postgres.plpgsql import Trigger, differs
from supervisor.schema.postgres.postgres_functions import as_text
from supervisor.schema.shared import history_rows
from supervisor.schema.shared.count_rows import COUNT_ARRIVED_ON_POSTGRES, COUNT_ON_POSTGRES
from supervisor.schema.shared.task_columns import VISIBLE
from supervisor.schema.shared.webhook_rows import ENDED, told_on_postgres

FEED_CHANNEL = "darkroom_feed"
DISPATCH_CHANNEL = "darkroom_dispatch"

_NEW = "REFERENCING NEW TABLE AS new_rows"
_BOTH = "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
_RING = f"PERFORM pg_notify('{DISPATCH_CHANNEL}', '');"

_MOMENT = "moment timestamptz := darkroom_now();"

_BECAME_FINAL = "n.status IN ('failed','cancelled') AND o.status <> n.status"
_FELL_SHORT = "n.status = 'completed' AND o.status <> 'completed' AND n.missing > 0"
# Every further column is prepared, and hashed, once for each statement.
_SEEN_OF_TASKS = ", ".join(
    f"n.{column}"
    for column in (
        "id", "user_openid", "work_id", "type", "status", "stage", "progress", "images", "outputs",
        "error", "created_at"
    )
)  # fmt: skip
_ENDED = f"n.status IN {ENDED} AND o.status <> n.status"
_MADE_WORK = "o.work_id IS NULL AND n.work_id IS NOT NULL"
_IS_SEEN = f"o.work_id IS NOT NULL AND ({differs(VISIBLE, new='n', old='o')})"
# A claim, progress and marks do not wake the dispatcher; changes that free a slot or make work do.  The dispatcher's
# tick finds a poll that becomes due later: ten thousand waiting jobs must not wake it.
_RANG = f"""(n.status <> o.status AND n.status <> 'processing') OR {differs(("run_after",), new="n", old="o")}
        OR ({differs(("next_poll_at",), new="n", old="o")} AND n.next_poll_at <= moment)"""


def changes() -> list[Trigger]:
    """Every trigger that runs after a statement, table by table."""
    return [
        *_of_tasks(),
        *_of_works(),
        *money_triggers.bookings(_lock_accounts("new_rows")),
        *_of_workers(),
    ]


def _moved(columns: str, condition: str) -> str:
    """A query of new rows (n) beside their old ones (o) where a condition holds."""
    return (
        f"(SELECT * FROM (SELECT {columns}, ({condition}) AS is_meant FROM new_rows AS n"
        " FULL JOIN old_rows AS o ON o.id = n.id OFFSET 0) AS pair WHERE is_meant)"
    )


def _is_named(column: str, named: str, rows: str) -> str:
    """The condition that a column of another table is `named` in one of these rows."""
    return f"{column} = ANY (ARRAY(SELECT {named} FROM {rows}))"


def _lock_accounts(rows: str) -> str:
    """Lock the accounts of these rows in the order of their users."""
    named = _is_named("user_openid", "user_openid", rows)
    return f"PERFORM 1 FROM account WHERE {named} ORDER BY user_openid FOR UPDATE;"


# Opens the accounts of users that have none, in their order.
_OPEN_ACCOUNTS = """INSERT INTO account (user_openid)
        SELECT DISTINCT user_openid FROM new_rows AS arrived
        WHERE NOT EXISTS (SELECT 1 FROM account WHERE account.user_openid = arrived.user_openid)
        ORDER BY user_openid ON CONFLICT DO NOTHING;"""


def _of_tasks() -> list[Trigger]:
    refund = money_triggers.refund(_moved("n.id, n.user_openid, n.charge, n.kept", _BECAME_FINAL))
    fell_short = _moved("n.id, n.user_openid, n.charge, n.missing, n.picture_count", _FELL_SHORT)
    part = money_triggers.part_refund(fell_short)
    moved = f"""SELECT count(*) AS rows, bool_or({_MADE_WORK}) AS made_work, bool_or({_IS_SEEN}) AS is_seen,
        bool_or({_BECAME_FINAL}) AS became_final, bool_or({_FELL_SHORT}) AS fell_short, bool_or({_ENDED}) AS ended,
        bool_or({_RANG}) AS rang, bool_or(n.status <> o.status) AS changed_status,
        bool_or({history_rows.is_step("n", "o")}) AS stepped
        INTO it FROM new_rows AS n FULL JOIN old_rows AS o ON o.id = n.id;
    IF it.stepped THEN -- before the ledger, so that a refund is not older than its reason
        INSERT INTO task_event ({history_rows.COLUMNS}) SELECT {history_rows.COLUMNS} FROM {_stepped()} AS steps;
    END IF;
    IF it.changed_status THEN
        {COUNT_ON_POSTGRES}
    END IF;
    IF it.rows > 1 AND (it.made_work OR it.is_seen OR it.became_final OR it.fell_short) THEN
        PERFORM 1 FROM works WHERE {_is_named("id", "work_id", "new_rows")} ORDER BY user_openid, id FOR UPDATE;
        {_lock_accounts("new_rows")}
    END IF;
    IF it.made_work THEN
        INSERT INTO works (id, user_openid, task_id, type, status, stage, progress, error, created_at, updated_at)
            SELECT work_id, user_openid, id, type, status, stage, progress, error, created_at, moment
            FROM {_moved(_SEEN_OF_TASKS, _MADE_WORK)} AS made ORDER BY user_openid, id;
    END IF;
    IF it.is_seen THEN
        UPDATE works SET status = seen.status, stage = seen.stage, progress = seen.progress,
                images = coalesce(seen.images, '[]'::jsonb), outputs = seen.outputs,
                error = seen.error, updated_at = moment
            FROM {_moved(_SEEN_OF_TASKS, _IS_SEEN)} AS seen WHERE works.id = seen.work_id;
    END IF;
    IF it.became_final THEN
        {refund}
    END IF;
    IF it.fell_short THEN
        {part}
    END IF;
    IF it.ended THEN
        {told_on_postgres(_moved("n.*", _ENDED), as_text)}
    END IF;
    IF it.rang THEN
        {_RING}
    END IF;
    RETURN NULL;"""
    arrived = f"""IF EXISTS (SELECT 1 FROM new_rows) THEN
    {_OPEN_ACCOUNTS}
    INSERT INTO task_event ({history_rows.COLUMNS})
        SELECT id, 'submitted', 0, 0, NULL, run_after, NULL, moment, 0 FROM new_rows ORDER BY id;
    {COUNT_ARRIVED_ON_POSTGRES}
    {_RING}
    END IF;
    RETURN NULL;"""
    forgotten = """DELETE FROM task_event WHERE task_id IN (SELECT id FROM old_rows);
    DELETE FROM task_step WHERE task_id IN (SELECT id FROM old_rows);
    RETURN NULL;"""
    return [
        Trigger(
            "task_queue_arrived",
            f"AFTER INSERT ON task_queue {_NEW}",
            arrived,
            each="STATEMENT",
            declare=_MOMENT,
        ),
        Trigger(
            "task_queue_forgotten",
            "AFTER DELETE ON task_queue REFERENCING OLD TABLE AS old_rows",
            forgotten,
            each="STATEMENT",
        ),
        Trigger(
            "task_queue_moved",
            f"AFTER UPDATE ON task_queue {_BOTH}",
            moved,
            each="STATEMENT",
            declare=f"it record; {_MOMENT}",
        ),
    ]


def _stepped() -> str:
    """The steps of a statement as rows of the history."""
    died = f"'{history_rows.DIED}'::jsonb"
    columns = (
        f"n.id AS task_id, {history_rows.event_of('n', 'o')} AS event, n.attempt, n.lease,"
        f" coalesce(n.worker_id, o.worker_id) AS worker_id, {history_rows.due_of('n', 'o')} AS run_after,"
        f" {history_rows.error_of('n', 'o', died)} AS error, moment AS at,"
        f" {history_rows.step_of('n', 'o')} AS step"
    )
    is_meant = f"({history_rows.is_step('n', 'o')}) AND NOT ({history_rows.is_noted('n', 'o')})"
    return _moved(columns, is_meant)


def _doc(row: str) -> str:
    """The public document of a work; pictures by key, links are signed when sent."""
    return (
        f"jsonb_build_object('_id', {row}.id, 'task_id', {row}.task_id, 'user_openid', {row}.user_openid,"
        f" 'type', {row}.type, 'status', {row}.status, 'stage', {row}.stage, 'progress', {row}.progress,"
        f" 'images', {row}.images, 'outputs', {row}.outputs, 'error', {row}.error,"
        f" 'created_at', {as_text(f'{row}.created_at')}, 'updated_at', {as_text(f'{row}.updated_at')})"
    )


def _publish(table: str, data_type: str, queue_type: str, rows: str = "") -> str:
    """Raise the users' seq, write the changes, notify the feed.

    table: where the statement's rows stand.  rows: a query of those that changed, with their `updated_fields`.
    """
    rows = rows or f"SELECT *, NULL::jsonb AS updated_fields FROM {table}"
    return f"""IF (SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 2) AS two) > 1 THEN
        {_lock_accounts(table)}
    END IF;
    WITH changed AS MATERIALIZED ({rows}),
    raised AS (
        UPDATE account SET seq = account.seq + of_user.changes
        FROM (SELECT user_openid, count(*) AS changes FROM changed GROUP BY user_openid) AS of_user
        WHERE account.user_openid = of_user.user_openid RETURNING account.user_openid, account.seq),
    written AS (
        INSERT INTO work_change (user_openid, seq, data_type, queue_type, doc_id, doc, updated_fields, created_at)
        SELECT w.user_openid,
            raised.seq - count(*) OVER (PARTITION BY w.user_openid)
                + row_number() OVER (PARTITION BY w.user_openid ORDER BY w.created_at, w.id),
            '{data_type}', '{queue_type}', w.id, {_doc("w")}, w.updated_fields, moment
        FROM changed AS w JOIN raised ON raised.user_openid = w.user_openid)
    SELECT count(CAST(pg_notify('{FEED_CHANNEL}', user_openid) AS text)) INTO told FROM raised;
    RETURN NULL;"""


def _updated_fields() -> str:
    """A JSON object of the changed visible columns; a null stays a null."""
    return " || ".join(
        f"CASE WHEN n.{column} IS DISTINCT FROM o.{column} THEN jsonb_build_object('{column}', n.{column})"
        " ELSE '{}'::jsonb END"
        for column in VISIBLE
    )


def _of_works() -> list[Trigger]:
    updated = _moved(f"n.*, {_updated_fields()} AS updated_fields", differs(VISIBLE, new="n", old="o"))
    return [
        Trigger(
            "works_added",
            f"AFTER INSERT ON works {_NEW}",
            _publish("new_rows", "add", "enqueue"),
            each="STATEMENT",
            declare=f"told bigint; {_MOMENT}",
        ),
        Trigger(
            "works_updated",
            f"AFTER UPDATE ON works {_BOTH}",
            _publish("new_rows", "update", "update", updated),
            each="STATEMENT",
            declare=f"told bigint; {_MOMENT}",
        ),
        Trigger(
            "works_removed",
            "AFTER DELETE ON works REFERENCING OLD TABLE AS old_rows",
            _publish("old_rows", "remove", "dequeue"),
            each="STATEMENT",
            declare=f"told bigint; {_MOMENT}",
        ),
    ]


def _of_workers() -> list[Trigger]:
    ring = f"{_RING}\n    RETURN NULL;"
    return [
        Trigger("pause_moved", "AFTER INSERT OR DELETE ON pause", ring),
        Trigger("worker_arrived", "AFTER INSERT ON worker", ring),
        Trigger(
            "worker_changed",
            "AFTER UPDATE ON worker",
            ring,
            only_if="NEW.state <> OLD.state OR NEW.slots <> OLD.slots OR NEW.busy < OLD.busy",
        ),
    ]
