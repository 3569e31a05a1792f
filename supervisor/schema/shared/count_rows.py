"""The numbers of open tasks by type and status: how triggers keep them, and how they are counted anew."""

from __future__ import annotations

_OPEN = "('pending','processing','ai_processing')"

# Rows of a statement that are neither new nor moved cancel out.
COUNT_ON_POSTGRES = f"""INSERT INTO task_count_delta (type, status, n)
            SELECT type, status, sum(n) FROM (SELECT type, status, 1 AS n FROM new_rows
                UNION ALL SELECT type, status, -1 FROM old_rows) AS both_sides
            WHERE status IN {_OPEN} GROUP BY type, status HAVING sum(n) <> 0;"""
COUNT_ARRIVED_ON_POSTGRES = """INSERT INTO task_count_delta (type, status, n)
        SELECT type, status, count(*) FROM new_rows GROUP BY type, status;"""

_COUNT_ANEW = f"""INSERT INTO task_count (type, status, n)
    SELECT type, status, count(*) FROM task_queue WHERE status IN {_OPEN} GROUP BY type, status"""

# To run after the triggers are made, in the same transaction and before any other program can write a task.
COUNT_ANEW_ON_SQLITE = ("DELETE FROM task_count", _COUNT_ANEW)
COUNT_ANEW_ON_POSTGRES = ("DELETE FROM task_count_delta", "DELETE FROM task_count", _COUNT_ANEW)


def count_on_sqlite() -> str:
    """The statements of a trigger for a task that enters NEW.status; there are no rows for finished tasks."""
    return f"""INSERT INTO task_count (type, status, n) SELECT NEW.type, NEW.status, 0
            WHERE NEW.status IN {_OPEN}
              AND NOT EXISTS (SELECT 1 FROM task_count WHERE type = NEW.type AND status = NEW.status);
        UPDATE task_count SET n = n + 1 WHERE type = NEW.type AND status = NEW.status;"""


def count_moved_on_sqlite() -> str:
    """The same for a task that leaves OLD.status."""
    return f"""UPDATE task_count SET n = n - 1 WHERE type = OLD.type AND status = OLD.status;
        {count_on_sqlite()}"""
