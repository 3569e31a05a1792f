"""The outbox of webhooks: messages, their addresses and attempts.

The trigger of the step that ends a task writes the delivery (`supervisor.schema.shared.webhook_rows`).  From then on it
is sent at least once.  A delivery is *waiting* until its time, and *sending* while a message in the broker or a worker
has it; if no result is recorded in time, it becomes due again.  Every message has a number.  With an outdated number a
worker can't claim the delivery, and its failure changes nothing.  A delivery ends as *delivered*, as *failed* after the
last attempt, or as *gone* if its address answered 410.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.statements import NOW, Built, ago, count, in_seconds, new_row, param, sql
from supervisor.schema.tables import GIVEN_UP, OWED, TaskQueue, Webhook, WebhookDelivery, WebhookGone
from supervisor.store.counters import counters
from supervisor.store.sql.row_isolation import Aside, apart, delete_apart, done_apart
from supervisor.store.sql.rows import decoded, encoded
from supervisor.store.webhooks import webhook_attempts
from supervisor.webhooks import turns
from supervisor.webhooks.schedule import SCHEDULE
from supervisor.webhooks.turns import Due, UnderWay, host_of, next_to_send

LOOKED_AT = 1000
USERS_LOOKED_AT = 2000
HINT_SECONDS = 15.0  # until an unread message is sent again
CLAIM_SECONDS = 60.0  # until an attempt without a result counts as lost; longer than any attempt may take
FORGET_SECONDS = 30 * 86_400.0

_KIND = "webhook_delivery"
# Checked without locks, since there may be thousands of rows each round, and checked again when a row is marked.  {}:
# now.
_IS_DUE = OWED + " AND due_at <= {}"
_COUNTED = "darkroom_webhook_deliveries_total"
_TIMES = ("due_at", "created_at", "ended_at")


_THIS = WebhookDelivery.id == param("id")
_OF_HINT = (_THIS, WebhookDelivery.state == "sending", WebhookDelivery.dispatch == param("dispatch"))
_SAID = {"last_status": param("status"), "last_error": param("reason")}
_NAME = Built(new_row(Webhook, "task_id", "url", "door"))
_CLAIM = Built(
    WebhookDelivery.update(
        claimed=WebhookDelivery.dispatch,
        attempts=WebhookDelivery.attempts + 1,
        due_at=in_seconds("seconds"),
    )
    .where(*_OF_HINT, WebhookDelivery.claimed < WebhookDelivery.dispatch)
    .returning(WebhookDelivery)
)
_PARAMS = Built(TaskQueue.select(TaskQueue.params).where(TaskQueue.id == param("id")))
_DELIVERED = Built(
    WebhookDelivery.update(
        state="delivered", ended_at=NOW, last_status=param("status"), last_error=None
    ).where(_THIS, sql(OWED))
)
_FAILED = Built(WebhookDelivery.update(state="failed", ended_at=NOW, **_SAID).where(*_OF_HINT))
_WAIT_AGAIN = Built(
    WebhookDelivery.update(state="waiting", due_at=in_seconds("seconds"), **_SAID).where(*_OF_HINT)
)
_GONE = Built(
    WebhookDelivery.update(state="gone", ended_at=NOW, last_status=410, last_error=param("reason")).where(
        *_OF_HINT
    )
)
_COUNT_OPEN = Built(WebhookDelivery.select(count(WebhookDelivery.id)).where(sql(OWED)))
_COUNT_GIVEN_UP = Built(
    WebhookDelivery.select(count(WebhookDelivery.id)).where(
        sql(GIVEN_UP), WebhookDelivery.created_at > ago("seconds")
    )
)
_RESEND = Built(
    WebhookDelivery.update(state="waiting", attempts=0, due_at=NOW, ended_at=None)
    .where(_THIS)
    .returning(WebhookDelivery.user_openid, WebhookDelivery.url)
)
_COME_BACK = Built(
    WebhookGone.delete().where(
        WebhookGone.user_openid == param("user_openid"), WebhookGone.url == param("url")
    )
)
_FORGET_GONE = Built(WebhookGone.delete().where(WebhookGone.since < ago("seconds")))


@dataclasses.dataclass(frozen=True)
class Delivery:
    """The message in the broker.  dispatch: the message's number."""

    id: str
    dispatch: int


@dataclasses.dataclass(frozen=True)
class Message:
    """A delivery that a worker has claimed.  data: the task as it ended, pictures by key; ended_at: as text.

    attempts: includes this one.  door: in which service's words it is sent, with the task's params; None means our own.
    """

    id: str
    dispatch: int
    task_id: str
    user: str
    url: str
    type: str
    data: Mapping[str, Any]
    ended_at: str
    attempts: int
    door: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def name(
    tx: Transaction, named: Iterable[tuple[str, str]], doors: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Store the webhooks of these tasks.  named: (task id, address).  doors: {task id: `door` of its messages}."""
    for task_id, url in named:
        door = (doors or {}).get(task_id)
        tx.execute(_NAME, task_id=task_id, url=url, door=None if door is None else encoded(door))


def due(tx: Transaction, aside: Aside | None = None) -> Pending[list[Delivery]]:
    """Mark due deliveries of users below their limit as being sent, up to the limits; each becomes due again in case
    its message is lost.  aside: deliveries to leave alone."""
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    asked = tx.ask(
        f"""SELECT id, user_openid, url, attempts FROM webhook_delivery
            WHERE {OWED} AND due_at <= {tx.now} AND {others}
                AND user_openid NOT IN (SELECT user_openid FROM webhook_delivery
                    WHERE state = 'sending' AND due_at > {tx.now} GROUP BY user_openid HAVING count(*) >= :most_sending)
            ORDER BY due_at LIMIT :looked_at""",
        **left_alone, most_sending=turns.MOST_SENDING_PER_USER, looked_at=LOOKED_AT,
    )  # fmt: skip
    return Pending(lambda: _mark_due(tx, asked.all(), aside))


def _mark_due(tx: Transaction, rows: list[Row], aside: Aside) -> list[Delivery]:
    if not rows:
        return []
    spent = [row["id"] for row in rows if row["attempts"] >= len(SCHEDULE)]
    if spent:
        done_apart(tx, _KIND, spent, lambda ids: _give_up(tx, ids), aside)

    def mark(ids: Sequence[str]) -> list[Delivery]:
        marked = tx.all(
            f"""UPDATE webhook_delivery SET state = 'sending', dispatch = dispatch + 1,
                due_at = {tx.in_seconds(":hint_seconds")}
                WHERE id IN (SELECT id FROM webhook_delivery WHERE {tx.is_one_of("id", ":ids")}
                    AND {_IS_DUE.format(tx.now)}{tx.for_update_of_free("webhook_delivery")}) RETURNING id, dispatch""",
            hint_seconds=HINT_SECONDS, ids=encoded(list(ids)),
        )  # fmt: skip
        return [Delivery(row["id"], row["dispatch"]) for row in marked]

    open_rows = [row for row in rows if row["attempts"] < len(SCHEDULE)]
    if len(rows) == LOOKED_AT:
        others = {row["id"]: row for row in _first_of_each_user(tx, aside)}
        open_rows = [*others.values(), *(row for row in open_rows if row["id"] not in others)]
    found = [Due(row["id"], row["user_openid"], host_of(row["url"])) for row in open_rows]
    return done_apart(tx, _KIND, next_to_send(found, _under_way(tx)), mark, aside)


def _under_way(tx: Transaction) -> UnderWay:
    sending = tx.all(
        f"SELECT user_openid, url FROM webhook_delivery WHERE state = 'sending' AND due_at > {tx.now}"
    )
    return UnderWay(
        Counter(row["user_openid"] for row in sending), Counter(host_of(row["url"]) for row in sending)
    )


def _first_of_each_user(tx: Transaction, aside: Aside) -> list[Row]:
    """The first due deliveries of each user, because the oldest ones may all belong to one user.

    The waiting users are read one after the other from an index, at most USERS_LOOKED_AT of them.
    """
    others, left_alone = aside.others(tx, "own.id")
    return tx.all(
        f"""WITH RECURSIVE waiting (n, user_openid) AS (
                SELECT 1, min(user_openid) FROM webhook_delivery WHERE {OWED}
                UNION ALL
                SELECT n + 1, (SELECT min(later.user_openid) FROM webhook_delivery AS later
                               WHERE later.{OWED} AND later.user_openid > waiting.user_openid)
                FROM waiting WHERE waiting.user_openid IS NOT NULL AND n < :most_users)
            SELECT delivery.id, delivery.user_openid, delivery.url, delivery.attempts
            FROM waiting JOIN webhook_delivery AS delivery ON delivery.id IN (
                SELECT own.id FROM webhook_delivery AS own
                WHERE own.user_openid = waiting.user_openid AND own.{OWED} AND own.due_at <= {tx.now}
                    AND own.attempts < :most_attempts AND {others}
                ORDER BY own.due_at LIMIT :most_sending)
            ORDER BY delivery.due_at""",
        most_users=USERS_LOOKED_AT, most_attempts=len(SCHEDULE), **left_alone,
        most_sending=turns.MOST_SENDING_PER_USER,
    )  # fmt: skip


def _give_up(tx: Transaction, ids: Sequence[str]) -> Sequence[str]:
    """Deliveries whose last attempt has no recorded result."""
    given_up = tx.all(
        f"""UPDATE webhook_delivery SET state = 'failed', ended_at = {tx.now},
            last_error = 'The worker that made the last attempt died in it.'
            WHERE id IN (SELECT id FROM webhook_delivery WHERE {tx.is_one_of("id", ":ids")} AND {_IS_DUE.format(tx.now)}
                AND attempts >= :attempts{tx.for_update_of_free("webhook_delivery")}) RETURNING id""",
        ids=encoded(list(ids)), attempts=len(SCHEDULE),
    )  # fmt: skip
    counters.count(tx, _COUNTED, len(given_up), outcome="failed")
    return [row["id"] for row in given_up]


def claim(tx: Transaction, hints: Sequence[Delivery], aside: Aside | None = None) -> list[Message]:
    """Claim these deliveries, each for one attempt, without those that another worker has or that have ended.

    aside: collects rows that are refused or unreadable.
    """

    def take(some: Sequence[Delivery]) -> list[Message]:
        return [message for hint in some if (message := _claim(tx, hint)) is not None]

    unreadable = (ValueError, LookupError, TypeError, RecursionError)
    messages, refused = apart(tx, _KIND, hints, lambda hint: hint.id, take, unreadable=unreadable)
    (aside or Aside()).refused.extend(refused)
    return messages


def _claim(tx: Transaction, hint: Delivery) -> Message | None:
    row = tx.one(_CLAIM, seconds=CLAIM_SECONDS, id=hint.id, dispatch=hint.dispatch)
    if row is None:
        return None
    webhook_attempts.begin(tx, row["id"], row["dispatch"], row["attempts"])
    data = decoded(row["data"])
    params = None if row["door"] is None else decoded(tx.value(_PARAMS, id=row["task_id"]))
    return Message(
        row["id"], row["dispatch"], row["task_id"], row["user_openid"], row["url"], row["type"], data,
        data["finished_at"], row["attempts"], decoded(row["door"]), params or {},
    )  # fmt: skip


def delivered(tx: Transaction, message: Message, status: int) -> bool:
    """Record that it has arrived, with any claim; False if it has ended already."""
    webhook_attempts.end(tx, message.id, message.dispatch, status=status)
    is_news = tx.run(_DELIVERED, id=message.id, status=status) == 1
    if is_news:
        counters.count(tx, _COUNTED, outcome="delivered")
    return is_news


def put_off(
    tx: Transaction, message: Message, seconds: float | None, *, status: int | None, reason: str
) -> bool:
    """Record that it has not arrived; try again in so many seconds, or never (None).  False if the claim is lost.

    status: of the answer, if there is one.  reason: a sentence.
    """
    said = {"id": message.id, "dispatch": message.dispatch, "status": status, "reason": reason}
    ended = tx.run(_FAILED, **said) if seconds is None else tx.run(_WAIT_AGAIN, **said, seconds=seconds)
    is_ours = ended == 1
    webhook_attempts.end(
        tx, message.id, message.dispatch, status=status, error=reason,
        next_in_seconds=seconds if is_ours else None,
    )  # fmt: skip
    if is_ours:
        counters.count(tx, _COUNTED, outcome="failed" if seconds is None else "delayed")
    return is_ours


def receiver_is_gone(tx: Transaction, message: Message) -> None:
    """Record that the address answered 410: nothing is sent there for this user until a delivery is re-sent by hand.

    An answer to an earlier message, after such a re-send, changes nothing.
    """
    wants_no_more = "The receiver answers 410: it wants no more."
    webhook_attempts.end(tx, message.id, message.dispatch, status=410, error=wants_no_more)
    is_ours = tx.run(_GONE, id=message.id, dispatch=message.dispatch, reason=wants_no_more) == 1
    if not is_ours:
        return
    counters.count(tx, _COUNTED, outcome="gone")
    tx.execute(
        f"""INSERT INTO webhook_gone (user_openid, url, since)
            SELECT user_openid, url, {tx.now} FROM webhook_delivery WHERE id = :id
            ON CONFLICT (user_openid, url) DO NOTHING""",
        id=message.id,
    )
    tx.execute(
        f"""UPDATE webhook_delivery SET state = 'gone', ended_at = {tx.now},
            last_error = 'The receiver answered 410 to another delivery.'
        WHERE state = 'waiting' AND (user_openid, url) IN
            (SELECT user_openid, url FROM webhook_delivery WHERE id = :id)""",
        id=message.id,
    )


def page(tx: Transaction, *, failed: bool = False, limit: int = 50) -> list[Row]:
    """Deliveries, newest first, without their data.  failed: only those that were given up."""
    columns = "id, task_id, user_openid, url, type, state, attempts, last_status, last_error"
    times = ", ".join(f"{tx.as_text(column)} AS {column}" for column in _TIMES)
    only = f"WHERE {GIVEN_UP}" if failed else ""
    return tx.all(
        f"""SELECT {columns}, {times} FROM webhook_delivery AS delivery {only}
            ORDER BY delivery.created_at DESC LIMIT :limit""",
        limit=limit,
    )


def open_and_given_up(tx: Transaction, within_seconds: float) -> tuple[int, int]:
    """The number of deliveries that still wait, and how many of those from the last so many seconds were given up."""
    still_open, given_up = tx.value(_COUNT_OPEN), tx.value(_COUNT_GIVEN_UP, seconds=within_seconds)
    return int(still_open), int(given_up)


def resend(tx: Transaction, delivery_id: str) -> bool:
    """Send it again from the beginning of the schedule, under the same id; False when there is no such delivery.

    Its address is used again after a 410.
    """
    row = tx.one(_RESEND, id=delivery_id)
    if row is None:
        return False
    tx.execute(_COME_BACK, **row)
    return True


def prune(tx: Transaction, most: int, aside: Aside | None = None) -> int:
    """Delete deliveries that ended long ago, and addresses that answered 410 before then; how many deliveries."""
    tx.execute(_FORGET_GONE, seconds=FORGET_SECONDS)
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    found = tx.all(  # but not a delivery that was just re-sent
        f"""SELECT id FROM webhook_delivery WHERE ended_at < {tx.ago(":forget_seconds")} AND {others}
            ORDER BY ended_at LIMIT :most{tx.for_update_of_free("webhook_delivery")}""",
        forget_seconds=FORGET_SECONDS, **left_alone, most=most,
    )  # fmt: skip
    return delete_apart(
        tx, "webhook_delivery", found, aside, before=lambda ids: webhook_attempts.forget(tx, ids)
    )
