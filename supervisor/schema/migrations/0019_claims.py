"""The dispatcher claims for a worker that it names.

task_queue.begun_lease: the newest lease whose attempt its worker has said to have begun.  worker.takes_claims: whether
this process takes claims from a list of its own; one of an older program finishes what it has and is given nothing.
dispatcher.claims_term: equals the term of whoever works by these rules.

The dispatcher that works now belongs to the older program and has to go; what it had marked and nobody has claimed is
picked again.  `dispatch` and `dispatched_at` stay, unused, for workers of that program which still put tasks back.
"""

from supervisor.schema.run_statements import run

STATEMENTS = (
    "ALTER TABLE task_queue ADD COLUMN begun_lease INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE worker ADD COLUMN takes_claims INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE dispatcher ADD COLUMN claims_term INTEGER NOT NULL DEFAULT 0",
    "UPDATE dispatcher SET holder = NULL, term = term + 1, beat = beat + 1",
    """UPDATE task_queue SET dispatched_at = NULL
        WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns, and begin anew with what is not claimed."""
    run(db, sqlite=STATEMENTS, postgres=STATEMENTS)
