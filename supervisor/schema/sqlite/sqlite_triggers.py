"""The triggers on SQLite: defaults' guard, lifecycle guard, works, change log, wake-ups; money has a file of its own.

They must work in a plain `sqlite3` connection (3.38 or newer) without pragmas and registered functions.  So they use
only built-in functions and no foreign keys.  They do not depend on the failure of an inner constraint, because the
conflict clause of the outer statement (`INSERT OR REPLACE`) overrides the clauses inside a trigger; `RAISE(ABORT)` is
not overridden.
"""

from __future__ import annotations

from config.storage import AUDIT_KEPT_DAYS
from supervisor.remote.job_states import MOVES
from supervisor.schema.shared import history_rows
from supervisor.schema.shared.count_rows import count_moved_on_sqlite, count_on_sqlite
from supervisor.schema.shared.dispatchers import OLD_DISPATCHER, TAKES_OVER_BY_OLD_RULES
from supervisor.schema.shared.lifecycle_guard import (
    IMMUTABLE,
    RUN_AFTER_IS_GIVEN_AT_INSERT,
    STEPS,
    STEPS_ARE_FIXED,
    legal_update_on_sqlite,
    run_after_is_ours,
    steps_are_fixed,
)
from supervisor.schema.shared.retention_guards import (
    AUDIT_KEPT,
    COSTS_KEPT,
    REMOTE_JOB_KEPT,
    must_keep_remote_job,
)
from supervisor.schema.shared.task_columns import BORN_WITH, SET_BACK, VISIBLE, refusal_of
from supervisor.schema.shared.webhook_rows import told_on_sqlite
from supervisor.schema.sqlite.money_triggers import ledger, refunds
from supervisor.schema.sqlite.refusing import refuse_first

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now',(SELECT shift FROM rule))"
UNSHIFTED_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

# Initial values of the columns that a producer must not set.
_BORN_WITH = {**BORN_WITH, "created_at": UNSHIFTED_NOW, "updated_at": UNSHIFTED_NOW}


def _doc(row: str) -> str:
    """The public document of a work, as JSON text; pictures by key, links are signed when sent."""
    return (
        f"json_object('_id', {row}.id, 'task_id', {row}.task_id, 'user_openid', {row}.user_openid,"
        f" 'type', {row}.type, 'status', {row}.status, 'stage', {row}.stage, 'progress', {row}.progress,"
        f" 'images', json({row}.images), 'outputs', json({row}.outputs), 'error', json({row}.error),"
        f" 'created_at', {row}.created_at, 'updated_at', {row}.updated_at)"
    )


def _updated_fields() -> str:
    """A JSON object of the visible columns that differ; a null stays a null, which json_patch would drop."""
    parts = []
    for column in VISIBLE:
        value = (
            f"coalesce(NEW.{column}, 'null')"
            if column in ("images", "outputs", "error")
            else f"json_quote(NEW.{column})"
        )
        parts.append(
            f"CASE WHEN NEW.{column} IS NOT OLD.{column} THEN ',\"{column}\":' || {value} ELSE '' END"
        )
    return "'{' || substr(" + " || ".join(parts) + ", 2) || '}'"


def _change(row: str, data_type: str, queue_type: str, updated_fields: str = "NULL") -> str:
    """Raise the user's seq and write the change, in the writer's transaction."""
    return f"""
        UPDATE account SET seq = seq + 1 WHERE user_openid = {row}.user_openid;
        INSERT INTO work_change (user_openid, seq, data_type, queue_type, doc_id, doc, updated_fields, created_at)
            SELECT {row}.user_openid, account.seq, '{data_type}', '{queue_type}', {row}.id, {_doc(row)},
                   {updated_fields}, {NOW}
            FROM account WHERE account.user_openid = {row}.user_openid;
        UPDATE wake SET feed = feed + 1;"""


def _differs(columns: tuple[str, ...]) -> str:
    return " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in columns)


def _legal_moves() -> str:
    """The condition that a request's state moves as the table says."""
    return " OR ".join(
        f"(OLD.state = '{source}' AND NEW.state IN ({', '.join(repr(str(target)) for target in sorted(targets))}))"
        for source, targets in MOVES.items()
    )


def _insert_guard() -> str:
    """The statement that refuses what an INSERT into task_queue may not give."""
    checks = [
        (
            "typeof(NEW.id) <> 'text' OR length(NEW.id) NOT BETWEEN 1 AND 64 OR NEW.id GLOB '*[^A-Za-z0-9_-]*'"
            f" OR {_holds_nul('NEW.id')}",
            "id must be 1-64 characters of A-Z a-z 0-9 _ -",
        ),
        ("EXISTS (SELECT 1 FROM task_queue WHERE id = NEW.id)", "a task with this id exists already"),
        # INSERT OR REPLACE by rowid would delete that row, and fire no delete trigger.
        (
            "EXISTS (SELECT 1 FROM task_queue WHERE rowid = NEW.rowid)",
            "a task with this rowid exists already",
        ),
        (
            "EXISTS (SELECT 1 FROM credit_entry WHERE task_id = NEW.id)"
            " OR EXISTS (SELECT 1 FROM works WHERE task_id = NEW.id)",
            "a task with this id existed before; its work or its ledger entries still name it",
        ),
        (
            "EXISTS (SELECT 1 FROM remote_job WHERE task_id = NEW.id)",
            "a task with this id existed before; what services were asked for it is still kept",
        ),
        (
            "typeof(NEW.user_openid) <> 'text' OR length(NEW.user_openid) NOT BETWEEN 1 AND 128"
            f" OR {_holds_nul('NEW.user_openid')}",
            "user_openid must be 1-128 characters",
        ),
        (
            f"typeof(NEW.type) <> 'text' OR length(NEW.type) NOT BETWEEN 1 AND 64 OR {_holds_nul('NEW.type')}",
            "type must be 1-64 characters",
        ),
        (
            "typeof(NEW.params) <> 'text' OR CASE WHEN json_valid(NEW.params)"
            f" THEN json_type(NEW.params) <> 'object' ELSE 1 END OR {_holds_nul('NEW.params')}",
            "params must be a JSON object",
        ),
        (
            "typeof(NEW.priority) <> 'integer' OR NEW.priority NOT BETWEEN -10 AND 10",
            "priority must be a whole number from -10 to 10",
        ),
        (
            f"NEW.run_after IS NOT NULL AND (NEW.run_after NOT LIKE '____-__-__%' OR"
            f" {_normalised('NEW.run_after')} IS NULL)",
            "run_after must be a time such as 2026-11-05T08:00:00.000Z",
        ),
    ]
    for column, born in _BORN_WITH.items():
        checks.append((f"NEW.{column} IS NOT {born}", refusal_of(column)))
    return refuse_first(checks)


def _update_guard() -> str:
    """The statement that refuses an UPDATE of task_queue that no step of its lifecycle makes."""
    return refuse_first(
        [
            (
                _differs(("rowid", *IMMUTABLE)),
                "id, user_openid, type, params and created_at of a task can not change",
            ),
            (
                "NEW.work_id IS NOT OLD.work_id AND (OLD.work_id IS NOT NULL"
                " OR EXISTS (SELECT 1 FROM task_queue WHERE work_id = NEW.work_id)"
                " OR EXISTS (SELECT 1 FROM works WHERE id = NEW.work_id OR task_id = NEW.id))",
                "work_id of a task is given once, by its admission, and to no other task",
            ),
            (
                "NEW.run_after IS NOT OLD.run_after"
                " AND NOT (OLD.status = 'pending' AND OLD.finished_at IS NOT NULL)"
                f" AND NEW.run_after IS NOT {_normalised('OLD.run_after')} AND ({run_after_is_ours()}) IS NOT TRUE",
                RUN_AFTER_IS_GIVEN_AT_INSERT,
            ),
            (f"({_differs(STEPS)}) AND ({steps_are_fixed()}) IS NOT TRUE", STEPS_ARE_FIXED),
            (
                "NEW.lease < OLD.lease OR NEW.attempt < OLD.attempt",
                "lease and attempt of a task never fall",
            ),
            (
                "NEW.status NOT IN ('pending','processing','ai_processing','completed','failed','cancelled')",
                "status must be pending, processing, ai_processing, completed, failed or cancelled",
            ),
            (
                "OLD.status IN ('failed','cancelled') AND NEW.status = 'pending' AND OLD.work_id IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM works WHERE id = OLD.work_id)",
                "this task's work was deleted, so it can not be retried",
            ),
            (f"({legal_update_on_sqlite()}) IS NOT TRUE", "the lifecycle of a task has no such step"),
        ]
    )


def _holds_nul(text: str) -> str:
    """SQLite's text functions stop at a NUL, so the text after it would pass every other check."""
    return f"instr(CAST({text} AS BLOB), x'00') > 0"


def _normalised(time: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {time})"


def triggers() -> dict[str, str]:
    """Every trigger by name, in the order of creation."""
    final = "('completed','failed','cancelled')"
    return {
        "task_queue_born": f"""BEFORE INSERT ON task_queue BEGIN
        {_insert_guard()}
    END""",
        "task_queue_arrived": f"""AFTER INSERT ON task_queue BEGIN
        SELECT RAISE(ABORT, 'rowid of a task is above 0') WHERE NEW.rowid < 1;
        INSERT INTO account (user_openid) SELECT NEW.user_openid
            WHERE NOT EXISTS (SELECT 1 FROM account WHERE user_openid = NEW.user_openid);
        UPDATE task_queue SET run_after = {_normalised("run_after")} WHERE id = NEW.id AND run_after IS NOT NULL;
        INSERT INTO task_event ({history_rows.COLUMNS})
            VALUES (NEW.id, 'submitted', 0, 0, NULL, {_normalised("NEW.run_after")}, NULL, {NOW}, 0);
        {count_on_sqlite()}
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
        "task_queue_guard": f"""BEFORE UPDATE ON task_queue BEGIN
        {_update_guard()}
    END""",
        "task_queue_kept": f"""BEFORE DELETE ON task_queue WHEN OLD.status NOT IN {final} BEGIN
        SELECT RAISE(ABORT, 'an open task can not be deleted; cancel it first');
    END""",
        "task_queue_counted": f"""AFTER UPDATE OF status ON task_queue WHEN OLD.status <> NEW.status BEGIN
        {count_moved_on_sqlite()}
    END""",
        "task_queue_stepped": f"""AFTER UPDATE OF status, admitted_charge ON task_queue
        WHEN ({history_rows.is_step("NEW", "OLD")}) AND NOT ({history_rows.is_noted("NEW", "OLD")}) BEGIN
        INSERT INTO task_event ({history_rows.COLUMNS})
            VALUES (NEW.id, {history_rows.event_of("NEW", "OLD")}, NEW.attempt, NEW.lease,
                    coalesce(NEW.worker_id, OLD.worker_id), {history_rows.due_of("NEW", "OLD")},
                    {history_rows.error_of("NEW", "OLD", f"'{history_rows.DIED}'")}, {NOW},
                    {history_rows.step_of("NEW", "OLD")});
    END""",
        "task_queue_forgotten": """AFTER DELETE ON task_queue BEGIN
        DELETE FROM task_event WHERE task_id = OLD.id;
        DELETE FROM task_step WHERE task_id = OLD.id;
    END""",
        "task_queue_resubmitted": f"""AFTER UPDATE OF status ON task_queue
        WHEN OLD.status IN ('failed','cancelled') AND NEW.status = 'pending' BEGIN
        UPDATE task_queue SET charge = charge + 1, updated_at = {NOW},
            {", ".join(f"{column} = {value}" for column, value in SET_BACK.items())}
        WHERE id = NEW.id;
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
        "task_queue_work_made": f"""AFTER UPDATE OF work_id ON task_queue
        WHEN OLD.work_id IS NULL AND NEW.work_id IS NOT NULL BEGIN
        INSERT INTO works (id, user_openid, task_id, type, status, stage, progress, error, created_at, updated_at)
            VALUES (NEW.work_id, NEW.user_openid, NEW.id, NEW.type, NEW.status, NEW.stage, NEW.progress,
                    NEW.error, NEW.created_at, {NOW});
    END""",
        "task_queue_published": f"""AFTER UPDATE OF {", ".join(VISIBLE)} ON task_queue
        WHEN OLD.work_id IS NOT NULL AND ({_differs(VISIBLE)} OR NEW.finished_at IS NOT OLD.finished_at)
             AND NOT (NEW.status = 'pending' AND NEW.finished_at IS NOT NULL) BEGIN
        UPDATE works SET status = NEW.status, stage = NEW.stage, progress = NEW.progress,
            images = coalesce(NEW.images, '[]'), outputs = NEW.outputs, error = NEW.error, updated_at = {NOW}
        WHERE id = NEW.work_id;
    END""",
        **refunds(),
        "task_queue_told": f"""AFTER UPDATE OF status ON task_queue
        WHEN NEW.status IN {final} AND OLD.status <> NEW.status BEGIN
        {told_on_sqlite()}
    END""",
        # A claim, progress and marks do not wake the dispatcher; changes that free a slot or make work do.  The
        # dispatcher's tick finds a poll that becomes due later: ten thousand waiting jobs must not wake it.
        "task_queue_rang": f"""AFTER UPDATE OF status, run_after, next_poll_at, ready ON task_queue
        WHEN (NEW.status <> OLD.status AND NEW.status <> 'processing')
          OR NEW.run_after IS NOT OLD.run_after
          OR (NEW.next_poll_at IS NOT OLD.next_poll_at AND NEW.next_poll_at <= {NOW}) BEGIN
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
        **ledger(),
        "works_born": """BEFORE INSERT ON works BEGIN
        SELECT RAISE(ABORT, 'a work is made by the admission of its task alone')
            WHERE NOT EXISTS (SELECT 1 FROM task_queue WHERE work_id = NEW.id AND id = NEW.task_id
                              AND user_openid = NEW.user_openid)
               OR EXISTS (SELECT 1 FROM works WHERE id = NEW.id OR task_id = NEW.task_id OR rowid = NEW.rowid);
    END""",
        "works_fixed": f"""BEFORE UPDATE ON works BEGIN
        SELECT RAISE(ABORT, 'id, user_openid, task_id, type and created_at of a work can not change')
            WHERE {_differs(("rowid", "id", "user_openid", "task_id", "type", "created_at"))};
    END""",
        "works_added": f"""AFTER INSERT ON works BEGIN{_change("NEW", "add", "enqueue")}
    END""",
        "works_updated": f"""AFTER UPDATE ON works WHEN {_differs(VISIBLE)} BEGIN
        {_change("NEW", "update", "update", _updated_fields())}
    END""",
        "works_removed": f"""AFTER DELETE ON works BEGIN{_change("OLD", "remove", "dequeue")}
    END""",
        "works_guard": """BEFORE DELETE ON works
        WHEN (SELECT status FROM task_queue WHERE id = OLD.task_id) IN ('pending','processing','ai_processing') BEGIN
        SELECT RAISE(ABORT, 'cancel the task before its work is deleted');
    END""",
        "remote_job_born": """BEFORE INSERT ON remote_job BEGIN
        SELECT RAISE(ABORT, 'a request is written down before it leaves, as submitting')
            WHERE NEW.state <> 'submitting' OR NEW.remote_id IS NOT NULL;
        SELECT RAISE(ABORT, 'a request with this id or reference exists already')
            WHERE EXISTS (SELECT 1 FROM remote_job WHERE id = NEW.id OR reference = NEW.reference);
    END""",
        "remote_job_guard": f"""BEFORE UPDATE ON remote_job BEGIN
        SELECT RAISE(ABORT, 'which task a request was for, and what it was called, can not change')
            WHERE {_differs(("id", "task_id", "charge", "lease", "step", "provider", "reference", "created_at"))}
               OR (OLD.remote_id IS NOT NULL AND NEW.remote_id IS NOT OLD.remote_id);
        SELECT RAISE(ABORT, 'what is known of a request is never taken back')
            WHERE NEW.state <> OLD.state AND NOT ({_legal_moves()});
    END""",
        "remote_job_kept": f"""BEFORE DELETE ON remote_job BEGIN
        SELECT RAISE(ABORT, '{REMOTE_JOB_KEPT}') WHERE {must_keep_remote_job("OLD")};
    END""",
        "task_event_born": """BEFORE INSERT ON task_event
        WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM task_event WHERE id = NEW.id) BEGIN
        SELECT RAISE(ABORT, 'an event with this id exists already');
    END""",
        "task_event_unchangeable": """BEFORE UPDATE ON task_event BEGIN
        SELECT RAISE(ABORT, 'the history of a task is append-only');
    END""",
        "task_event_kept": """BEFORE DELETE ON task_event
        WHEN (SELECT status FROM task_queue WHERE id = OLD.task_id) IN ('pending','processing','ai_processing') BEGIN
        SELECT RAISE(ABORT, 'the history of an open task is kept');
    END""",
        "provider_cost_born": """BEFORE INSERT ON provider_cost
        WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM provider_cost WHERE id = NEW.id) BEGIN
        SELECT RAISE(ABORT, 'a cost with this id exists already');
    END""",
        "provider_cost_unchangeable": f"""BEFORE UPDATE ON provider_cost BEGIN
        SELECT RAISE(ABORT, '{COSTS_KEPT}');
    END""",
        "provider_cost_kept": f"""BEFORE DELETE ON provider_cost BEGIN
        SELECT RAISE(ABORT, '{COSTS_KEPT}');
    END""",
        "audit_unchangeable": """BEFORE UPDATE ON audit BEGIN
        SELECT RAISE(ABORT, 'the record of what operators did is append-only');
    END""",
        "audit_kept": f"""BEFORE DELETE ON audit BEGIN
        SELECT RAISE(ABORT, '{AUDIT_KEPT}')
            WHERE OLD.at > strftime('%Y-%m-%dT%H:%M:%fZ',{NOW},'-{AUDIT_KEPT_DAYS} days');
    END""",
        "pause_begun": """AFTER INSERT ON pause BEGIN
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
        "pause_ended": """AFTER DELETE ON pause BEGIN
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
        "dispatcher_takes_over": f"""BEFORE UPDATE OF term ON dispatcher WHEN {TAKES_OVER_BY_OLD_RULES} BEGIN
        SELECT RAISE(ABORT, '{OLD_DISPATCHER}');
    END""",
        "worker_arrived": """AFTER INSERT ON worker BEGIN
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
        "worker_changed": """AFTER UPDATE OF state, slots, busy ON worker
        WHEN NEW.state <> OLD.state OR NEW.slots <> OLD.slots OR NEW.busy < OLD.busy BEGIN
        UPDATE wake SET dispatch = dispatch + 1;
    END""",
    }
