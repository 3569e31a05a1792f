"""The costs that AI services reported: a row for each request with a cost, written once and kept.

An amount is the service's own text, a decimal; amounts of one unit are added up exactly, those of two never.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from supervisor.database.interface.database import Row, Transaction
from supervisor.remote.amounts import nanos, plain, plus
from supervisor.store.counters import counters

COUNTER = "darkroom_ai_cost_total"  # whole billionths here, units where it is shown


@dataclasses.dataclass(frozen=True)
class ProviderCost:
    """Of one request.  reference: its name, which no other has."""

    reference: str
    task_id: str
    type: str
    charge: int
    lease: int
    attempt: int
    provider: str
    amount: str
    unit: str
    step: int = 0


class Total(NamedTuple):
    """Of a provider and a type: how many requests said a cost, and their exact sum as text."""

    provider: str
    type: str
    unit: str
    requests: int
    cost: str


class Taken(NamedTuple):
    """Credits that tasks of a type were debited, and what of it they were given back.  type: None once forgotten."""

    type: str | None
    debited: int
    refunded: int


def add(tx: Transaction, cost: ProviderCost) -> None:
    """Keep a cost; of two for the same request the first one."""
    touched = tx.run(
        """INSERT INTO provider_cost (reference, task_id, type, charge, lease, attempt, provider, amount, unit, step)
            VALUES (:reference, :task_id, :type, :charge, :lease, :attempt, :provider, :amount, :unit, :step)
            ON CONFLICT DO NOTHING""",
        **dataclasses.asdict(cost),
    )  # fmt: skip
    if touched:
        counters.count(tx, COUNTER, nanos(cost.amount), provider=cost.provider, unit=cost.unit)


def of_task(tx: Transaction, task_id: str) -> list[dict[str, Any]]:
    """[{attempt, lease, charge, provider, cost, unit, at}] of a task, oldest first."""
    return tx.all(
        """SELECT attempt, lease, charge, provider, amount AS cost, unit, created_at AS at FROM provider_cost
            WHERE task_id = :task_id ORDER BY id""",
        task_id=task_id,
    )


def totals_since(tx: Transaction, since: str) -> list[Total]:
    """What was spent from a moment on.  since: RFC 3339, UTC."""
    rows = tx.all(
        """SELECT provider, type, unit, amount, count(*) AS requests FROM provider_cost
            WHERE created_at >= :since GROUP BY provider, type, unit, amount
            ORDER BY provider, type, unit""",
        since=since,
    )
    return list(_added_up(rows))


def credits_since(tx: Transaction, since: str) -> list[Taken]:
    """What tasks were debited and refunded from a moment on, by type."""
    rows = tx.all(
        """SELECT task_queue.type, -sum(CASE WHEN kind = 'debit' THEN amount ELSE 0 END) AS debited,
            sum(CASE WHEN kind = 'refund' THEN amount ELSE 0 END) AS refunded
            FROM credit_entry LEFT JOIN task_queue ON task_queue.id = credit_entry.task_id
            WHERE kind IN ('debit','refund') AND credit_entry.created_at >= :since
            GROUP BY task_queue.type ORDER BY task_queue.type""",
        since=since,
    )
    return [Taken(row["type"], int(row["debited"]), int(row["refunded"])) for row in rows]


def month_of(tx: Transaction) -> str:
    """When this month began, by the database's clock, as `since` of the others."""
    return f"{tx.value(f'SELECT {tx.as_text(tx.now)}')[:7]}-01T00:00:00.000Z"


def told_since(tx: Transaction, since: str) -> dict[str, Any]:
    """{since, costs, credits} as JSON: the rows of `totals_since`, and of `credits_since` with what was `taken`."""
    taken = credits_since(tx, since)
    return {
        "since": since,
        "costs": [each._asdict() for each in totals_since(tx, since)],
        "credits": [{**each._asdict(), "taken": each.debited - each.refunded} for each in taken],
    }


def _added_up(rows: Iterable[Row]) -> Iterable[Total]:
    sums: dict[tuple[str, str, str], tuple[int, Decimal]] = {}
    for row in rows:
        of = (row["provider"], row["type"], row["unit"])
        requests, total = sums.get(of, (0, Decimal(0)))
        sums[of] = requests + row["requests"], plus(total, row["amount"], row["requests"])
    for of, (requests, total) in sums.items():
        yield Total(*of, requests, plain(total))
