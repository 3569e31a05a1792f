"""The delivery that the end of a task writes for its webhook: the task as `GET /v1/tasks/{id}` shows it, pictures by
key.

The row is made in the transaction of the step, in every program.  So no message is sent about an end that was not
committed, and no committed end lacks its message.  The row holds the task at its end, because the task may run again
before it is sent.
"""

from __future__ import annotations

from collections.abc import Callable

ENDED = "('completed','failed','cancelled')"
# Further ones are recorded as failed, so that an absent receiver can't fill the outbox.
MOST_WAITING_PER_USER = 2000
TOO_MANY = f"{MOST_WAITING_PER_USER} webhooks of this user were waiting already; it was not sent."


def number_of_attempt(task: str) -> str:
    """SQL for the number of a task's present attempt, like `store.sql.rows.number_of_attempt`."""
    at = f"{task}.failures + CASE WHEN {task}.status = 'failed' AND {task}.failures > 0 THEN 0 ELSE 1 END"
    return f"CASE WHEN {task}.attempt = 0 THEN 0 WHEN {at} > {task}.max_attempts THEN {task}.max_attempts ELSE {at} END"


def _insert(
    task: str, json_object: str, json: Callable[[str], str], time: Callable[[str], str], milliseconds: str
) -> str:
    """The beginning of an INSERT … SELECT, up to its FROM.  task: the row's name; webhook is joined to it.

    milliseconds: template of a {time} since 1970.
    """
    outputs = json(f"{task}.outputs")
    images = f"{json_object}('images', {json(f'''coalesce({task}.images, '[]')''')}, 'outputs', {outputs})"
    result = json(f"CASE WHEN {task}.status = 'completed' THEN {images} END")
    members = {
        **{name: f"{task}.{column}" for name, column in _PLAIN.items()},
        "queue_position": "NULL",
        "eta_seconds": "NULL",
        "attempt": number_of_attempt(task),
        "max_attempts": f"{task}.max_attempts",
        "error": json(f"{task}.error"),
        "result": result,
        "created_at": time(f"{task}.created_at"),
        "started_at": time(f"{task}.processing_started_at"),
        "finished_at": time(f"{task}.finished_at"),
    }
    data = ", ".join(f"'{name}', {value}" for name, value in members.items())
    is_gone = f"""EXISTS (SELECT 1 FROM webhook_gone
            WHERE webhook_gone.user_openid = {task}.user_openid AND webhook_gone.url = webhook.url)"""
    is_one_too_many = f"""(SELECT count(*) FROM (SELECT 1 FROM webhook_delivery AS waiting
            WHERE waiting.user_openid = {task}.user_openid AND waiting.state IN ('waiting','sending')
            LIMIT {MOST_WAITING_PER_USER}) AS counted) >= {MOST_WAITING_PER_USER}"""
    # The id of a deleted task may be used again while its deliveries are kept: the time of submission separates them.
    name = f"'msg_' || {task}.id || '_' || {task}.charge"
    is_taken = f"EXISTS (SELECT 1 FROM webhook_delivery AS earlier WHERE earlier.id = {name})"
    submitted = milliseconds.format(time=f"{task}.created_at")
    return f"""INSERT INTO webhook_delivery
            (id, task_id, charge, user_openid, url, door, type, data, state, created_at, due_at, ended_at, last_error)
            SELECT {name} || CASE WHEN {is_taken} THEN '_' || {submitted} ELSE '' END,
                {task}.id, {task}.charge, {task}.user_openid,
                webhook.url, webhook.door, 'task.' || {task}.status, {json_object}({data}),
                CASE WHEN {is_gone} THEN 'gone' WHEN {is_one_too_many} THEN 'failed' ELSE 'waiting' END,
                {task}.finished_at, {task}.finished_at,
                CASE WHEN {is_gone} OR {is_one_too_many} THEN {task}.finished_at END,
                CASE WHEN NOT {is_gone} AND {is_one_too_many} THEN '{TOO_MANY}' END"""


_PLAIN = {name: name for name in ("work_id", "type", "status", "stage", "progress")} | {"task_id": "id"}


def told_on_sqlite() -> str:
    """The body of a trigger of a row, NEW."""
    milliseconds = "strftime('%s', {time}) || substr(strftime('%f', {time}), 4)"
    insert = _insert("NEW", "json_object", lambda value: f"json({value})", lambda time: time, milliseconds)
    return f"{insert} FROM webhook WHERE webhook.task_id = NEW.id;"


def told_on_postgres(rows: str, as_text: Callable[[str], str]) -> str:
    """A statement for many rows.  rows: a subquery of the tasks that just ended."""
    milliseconds = "CAST(floor(extract(epoch FROM {time}) * 1000) AS bigint)"
    insert = _insert(
        "ended",
        "jsonb_build_object",
        lambda value: f"({value})".replace("'[]'", "'[]'::jsonb"),
        as_text,
        milliseconds,
    )
    return f"{insert} FROM {rows} AS ended JOIN webhook ON webhook.task_id = ended.id ORDER BY ended.id;"
