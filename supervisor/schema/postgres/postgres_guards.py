"""The row guards on PostgreSQL: they refuse the same steps and values as SQLite's triggers, with the same sentences."""

from __future__ import annotations

from config.storage import AUDIT_KEPT_DAYS
from supervisor.remote.job_states import MOVES
from supervisor.schema.postgres import money_triggers
from supervisor.schema.postgres.plpgsql import Trigger, differs, refuse, refuse_if
from supervisor.schema.shared.dispatchers import OLD_DISPATCHER, TAKES_OVER_BY_OLD_RULES
from supervisor.schema.shared.lifecycle_guard import (
    IMMUTABLE,
    RUN_AFTER_IS_GIVEN_AT_INSERT,
    STEPS,
    STEPS_ARE_FIXED,
    counted_unchanged,
    legal_steps,
    run_after_is_ours,
    steps_are_fixed,
)
from supervisor.schema.shared.retention_guards import (
    AUDIT_KEPT,
    COSTS_KEPT,
    REMOTE_JOB_KEPT,
    must_keep_remote_job,
)
from supervisor.schema.shared.task_columns import BORN_WITH, SET_BACK, refusal_of

NO_SUCH_STEP = "the lifecycle of a task has no such step"
_LINES = "\n    "


def guards() -> list[Trigger]:
    """Every guard, table by table."""
    return [
        *_of_tasks(),
        *_of_works(),
        *money_triggers.guards(),
        *_of_remote_jobs(),
        *_of_history(),
        *_of_dispatchers(),
        *_of_truncation(),
    ]


def _of_tasks() -> list[Trigger]:
    before = "a task with this id existed before; "
    still_named = f"{before}its work or its ledger entries still name it"
    known = [
        ("EXISTS (SELECT 1 FROM task_queue WHERE id = NEW.id)", "a task with this id exists already"),
        ("EXISTS (SELECT 1 FROM credit_entry WHERE task_id = NEW.id)", still_named),
        ("EXISTS (SELECT 1 FROM works WHERE task_id = NEW.id)", still_named),
        (
            "EXISTS (SELECT 1 FROM remote_job WHERE task_id = NEW.id)",
            f"{before}what services were asked for it is still kept",
        ),
    ]
    born = [
        # Not `{1,64}`: a regular expression that counts costs as much as two lookups.
        refuse_if(
            "NEW.id IS NULL OR length(NEW.id) NOT BETWEEN 1 AND 64 OR NEW.id ~ '[^A-Za-z0-9_-]'",
            "id must be 1-64 characters of A-Z a-z 0-9 _ -",
        ),
        # Asked at once, since each question costs more than what it looks up.
        f"IF {' OR '.join(exists for exists, _ in known)} THEN",
        *(refuse_if(exists, sentence) for exists, sentence in known),
        "END IF;",
        refuse_if(
            "NEW.user_openid IS NULL OR length(NEW.user_openid) NOT BETWEEN 1 AND 128",
            "user_openid must be 1-128 characters",
        ),
        refuse_if(
            "NEW.type IS NULL OR length(NEW.type) NOT BETWEEN 1 AND 64", "type must be 1-64 characters"
        ),
        refuse_if("jsonb_typeof(NEW.params) IS DISTINCT FROM 'object'", "params must be a JSON object"),
        refuse_if(
            "NEW.priority IS NULL OR NEW.priority NOT BETWEEN -10 AND 10",
            "priority must be a whole number from -10 to 10",
        ),
        # Only years of four digits: infinity, and earlier or later years, are not valid start times.
        refuse_if(
            "NEW.run_after < '0001-01-01T00:00:00Z' OR NEW.run_after >= '9999-12-31T00:00:00Z'",
            "run_after must be a time such as 2026-11-05T08:00:00.000Z",
        ),
        f"IF {' OR '.join(f'NEW.{column} IS DISTINCT FROM {born}' for column, born in BORN_WITH.items())} THEN",
        *(
            refuse_if(f"NEW.{column} IS DISTINCT FROM {born}", refusal_of(column))
            for column, born in BORN_WITH.items()
        ),
        "END IF;",
        # These columns have no default, so any value in them was given.
        *(
            refuse_if(f"NEW.{column} IS NOT NULL", refusal_of(column))
            for column in ("created_at", "updated_at")
        ),
        "NEW.created_at := darkroom_now();",
        "NEW.updated_at := NEW.created_at;",
        "RETURN NEW;",
    ]
    set_back = [f"NEW.{column} := {value};" for column, value in SET_BACK.items()]
    step = [
        refuse_if(
            differs(IMMUTABLE), "id, user_openid, type, params and created_at of a task can not change"
        ),
        "IF NEW.work_id IS DISTINCT FROM OLD.work_id THEN",
        refuse_if(
            "OLD.work_id IS NOT NULL"
            " OR EXISTS (SELECT 1 FROM task_queue WHERE work_id = NEW.work_id)"
            " OR EXISTS (SELECT 1 FROM works WHERE id = NEW.work_id)"
            " OR EXISTS (SELECT 1 FROM works WHERE task_id = NEW.id)",
            "work_id of a task is given once, by its admission, and to no other task",
        ),
        "END IF;",
        "IF NEW.run_after IS DISTINCT FROM OLD.run_after THEN",
        refuse_if(f"({run_after_is_ours()}) IS NOT TRUE", RUN_AFTER_IS_GIVEN_AT_INSERT),
        "END IF;",
        refuse_if(
            "NEW.lease < OLD.lease OR NEW.attempt < OLD.attempt", "lease and attempt of a task never fall"
        ),
        refuse_if(
            "NEW.status IS NULL OR NEW.status NOT IN"
            " ('pending','processing','ai_processing','completed','failed','cancelled')",
            "status must be pending, processing, ai_processing, completed, failed or cancelled",
        ),
        "IF OLD.status IN ('failed','cancelled') AND NEW.status = 'pending' THEN",
        refuse_if(
            "OLD.work_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM works WHERE id = OLD.work_id)",
            "this task's work was deleted, so it can not be retried",
        ),
        refuse_if(f"({counted_unchanged()}) IS NOT TRUE", NO_SUCH_STEP),
        "NEW.charge := OLD.charge + 1;",
        *set_back,
        "NEW.updated_at := darkroom_now();",
        "END IF;",
        f"IF {differs(STEPS)} THEN",
        refuse_if(f"({steps_are_fixed()}) IS NOT TRUE", STEPS_ARE_FIXED),
        "END IF;",
        *_only_legal_steps(),
        "RETURN NEW;",
    ]
    return [
        Trigger("task_queue_born", "BEFORE INSERT ON task_queue", _LINES.join(born)),
        Trigger("task_queue_guard", "BEFORE UPDATE ON task_queue", _LINES.join(step)),
        Trigger(
            "task_queue_kept",
            "BEFORE DELETE ON task_queue",
            refuse("an open task can not be deleted; cancel it first"),
            only_if="OLD.status NOT IN ('completed','failed','cancelled')",
        ),
    ]


def _only_legal_steps() -> list[str]:
    """Statements that refuse changes which no arrow explains.

    The statuses are compared first, because every condition that is reached is prepared anew in each transaction.
    """
    lines = []
    for place, (source, targets) in enumerate(legal_steps().items()):
        lines.append(f"{'ELSIF' if place else 'IF'} OLD.status = '{source}' THEN")
        for nested, (target, condition) in enumerate(targets.items()):
            lines.append(f"{'ELSIF' if nested else 'IF'} NEW.status = '{target}' THEN")
            lines.append(refuse_if(f"({condition}) IS NOT TRUE", NO_SUCH_STEP))
        lines += ["ELSE", refuse(NO_SUCH_STEP), "END IF;"]
    return [*lines, "ELSE", refuse(NO_SUCH_STEP), "END IF;"]


def _of_works() -> list[Trigger]:
    return [
        Trigger(
            "works_born",
            "BEFORE INSERT ON works",
            refuse_if(
                # By its id alone: planned while the table was nearly empty, it went through all tasks of the user.
                "NOT EXISTS (SELECT 1 FROM task_queue WHERE id = NEW.task_id AND work_id || '' = NEW.id"
                " AND user_openid || '' = NEW.user_openid)"
                " OR EXISTS (SELECT 1 FROM works WHERE id = NEW.id)"
                " OR EXISTS (SELECT 1 FROM works WHERE task_id = NEW.task_id)",
                "a work is made by the admission of its task alone",
            )
            + "\n    RETURN NEW;",
        ),
        Trigger(
            "works_fixed",
            "BEFORE UPDATE ON works",
            refuse("id, user_openid, task_id, type and created_at of a work can not change"),
            only_if=differs(("id", "user_openid", "task_id", "type", "created_at")),
        ),
        # The task's row is locked, so that the task can't be retried while its work is deleted.
        Trigger(
            "works_guard",
            "BEFORE DELETE ON works",
            "PERFORM 1 FROM task_queue WHERE id = OLD.task_id FOR SHARE;\n    "
            + refuse_if(
                "(SELECT status FROM task_queue WHERE id = OLD.task_id) IN ('pending','processing','ai_processing')",
                "cancel the task before its work is deleted",
            )
            + "\n    RETURN OLD;",
        ),
    ]


def _of_remote_jobs() -> list[Trigger]:
    moves = " OR ".join(
        f"(OLD.state = '{source}' AND NEW.state IN ({', '.join(repr(str(target)) for target in sorted(targets))}))"
        for source, targets in MOVES.items()
    )
    return [
        Trigger(
            "remote_job_born",
            "BEFORE INSERT ON remote_job",
            refuse_if(
                "NEW.state <> 'submitting' OR NEW.remote_id IS NOT NULL",
                "a request is written down before it leaves, as submitting",
            )
            + _LINES
            + refuse_if(
                "EXISTS (SELECT 1 FROM remote_job WHERE reference = NEW.reference)",
                "a request with this id or reference exists already",
            )
            + "\n    RETURN NEW;",
        ),
        Trigger(
            "remote_job_guard",
            "BEFORE UPDATE ON remote_job",
            refuse_if(
                differs(("id", "task_id", "charge", "lease", "step", "provider", "reference", "created_at"))
                + " OR (OLD.remote_id IS NOT NULL AND NEW.remote_id IS DISTINCT FROM OLD.remote_id)",
                "which task a request was for, and what it was called, can not change",
            )
            + _LINES
            + refuse_if(
                f"NEW.state <> OLD.state AND NOT ({moves})", "what is known of a request is never taken back"
            )
            + "\n    RETURN NEW;",
        ),
        Trigger(
            "remote_job_kept",
            "BEFORE DELETE ON remote_job",
            refuse_if(must_keep_remote_job("OLD"), REMOTE_JOB_KEPT) + "\n    RETURN OLD;",
        ),
    ]


def _of_history() -> list[Trigger]:
    kept = refuse_if(
        "(SELECT status FROM task_queue WHERE id = OLD.task_id) IN ('pending','processing','ai_processing')",
        "the history of an open task is kept",
    )
    return [
        Trigger(
            "task_event_unchangeable",
            "BEFORE UPDATE ON task_event",
            refuse("the history of a task is append-only"),
        ),
        Trigger("task_event_kept", "BEFORE DELETE ON task_event", kept + "\n    RETURN OLD;"),
        Trigger("provider_cost_unchangeable", "BEFORE UPDATE ON provider_cost", refuse(COSTS_KEPT)),
        Trigger("provider_cost_kept", "BEFORE DELETE ON provider_cost", refuse(COSTS_KEPT)),
        Trigger(
            "audit_unchangeable",
            "BEFORE UPDATE ON audit",
            refuse("the record of what operators did is append-only"),
        ),
        Trigger(
            "audit_kept",
            "BEFORE DELETE ON audit",
            refuse_if(f"OLD.at > darkroom_now() - interval '{AUDIT_KEPT_DAYS} days'", AUDIT_KEPT)
            + "\n    RETURN OLD;",
        ),
    ]


def _of_dispatchers() -> list[Trigger]:
    return [
        Trigger(
            "dispatcher_takes_over",
            "BEFORE UPDATE ON dispatcher",
            refuse(OLD_DISPATCHER),
            only_if=f"NEW.term <> OLD.term AND {TAKES_OVER_BY_OLD_RULES}",
        )
    ]


def _of_truncation() -> list[Trigger]:
    """TRUNCATE fires no row's trigger, so it needs guards of its own."""
    return [
        Trigger(f"{table}_not_emptied", f"BEFORE TRUNCATE ON {table}", refuse(sentence), each="STATEMENT")
        for table, sentence in {
            "task_queue": "tasks can not be deleted all at once: open ones are to be cancelled first",
            "works": "works can not be deleted all at once: their users would not hear of it",
            "account": "an account can not be deleted: the ledger refers to it",
            "credit_entry": "the ledger is append-only",
            "remote_job": "the evidence of paid requests is append-only",
            "provider_cost": COSTS_KEPT,
            "task_event": "the history of an open task is kept",
            "audit": "the record of what operators did is append-only",
        }.items()
    ]
