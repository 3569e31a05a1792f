"""Evidence of paid requests: written before a request leaves, completed by whoever learns how it ended.

`begin` is the only gate: no paid request leaves without it.  In one transaction it makes sure of the lease, refuses
what may have been billed already, takes a token of the provider's bucket and a place among its open jobs, and writes
the row.  So the limits hold across all hosts, and no path back to pending, whichever it was, can bill twice in silence.

Terms: a *part* is one request of an attempt, counted from 0; an attempt that needs several has as many rows.
"""

from __future__ import annotations

import dataclasses

from config.values import Provider, ProviderLimits
from supervisor.database import Transaction
from supervisor.faults import LeaseLost, MayBeBilledAlready, ProviderFull, ProviderTooFast
from supervisor.remote_states import UNANSWERED, RemoteState, sources
from supervisor.store.claims import Claim

STALE_SECONDS = (
    30  # a live worker that has lost its lease hears of it within a heartbeat, and writes down what it knows
)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A row of remote_job.  reference: unique, the request's name towards the service."""

    id: int
    reference: str


def begin(tx: Transaction, claim: Claim, name: str, provider: Provider, part: int) -> Evidence:
    """Write down that a request is about to leave.  name: the provider's.

    Raises LeaseLost; MayBeBilledAlready when an earlier attempt's request of this charge is unanswered and the provider
    may not bill twice; ProviderFull, ProviderTooFast.  Nothing is changed then.
    """
    held = tx.value(
        "SELECT 1 FROM task_queue WHERE id = ? AND lease = ? AND status = 'processing' AND worker_id IS NOT NULL",
        claim.task_id, claim.lease,
    )  # fmt: skip
    if held is None:
        raise LeaseLost(claim.task_id, claim.lease)
    if not provider.may_bill_twice and unanswered(tx, claim.task_id, claim.charge, before_lease=claim.lease):
        raise MayBeBilledAlready(claim.task_id)
    _take_room(tx, name, provider.limits)
    reference = f"{claim.task_id}.{claim.charge}.{claim.lease}.{part}"  # an id holds no full stop
    evidence = tx.value(
        f"""INSERT INTO remote_job (task_id, charge, lease, provider, reference, state, created_at, updated_at)
            VALUES (?, ?, ?, ?, ?, 'submitting', {tx.now}, {tx.now}) RETURNING id""",
        claim.task_id, claim.charge, claim.lease, name, reference,
    )  # fmt: skip
    return Evidence(int(evidence), reference)


def accepted(tx: Transaction, evidence: Evidence, remote_id: str) -> bool:
    """The service has taken the job under this id, whoever holds the lease by now; False when more is known already."""
    return _move(tx, evidence, RemoteState.WAITING, remote_id)


def settle(tx: Transaction, evidence: Evidence, state: RemoteState) -> bool:
    """The request ended so; False when that, or more, is known already."""
    return _move(tx, evidence, state)


def unanswered(
    tx: Transaction, task_id: str, charge: int, *, before_lease: int | None = None
) -> frozenset[str]:
    """Providers that were sent a request of this charge whose answer nobody heard.

    before_lease: only requests of earlier leases.
    """
    rows = tx.all(
        f"""SELECT DISTINCT provider FROM remote_job WHERE task_id = ? AND charge = ?
            AND state IN ({_listed(UNANSWERED)}) AND (? IS NULL OR lease < ?)""",
        task_id, charge, before_lease, before_lease,
    )  # fmt: skip
    return frozenset(row["provider"] for row in rows)


def give_up_hope(tx: Transaction, task_id: str, charge: int) -> None:
    """Nobody will hear the answers of this charge's requests any more: they stay unknown."""
    tx.execute(
        f"""UPDATE remote_job SET state = 'unknown', updated_at = {tx.now}
            WHERE task_id = ? AND charge = ? AND state = 'submitting'""",
        task_id, charge,
    )  # fmt: skip


def close_stale(tx: Transaction) -> int:
    """Requests on their way whose attempt is over count as unknown, or they would hold the provider's room for ever.

    That is what is left when a task was cancelled and its worker died before it noticed.  How many there were.
    """
    return tx.run(
        # The first condition names the partial index, which the planner does not see to be implied by the second.
        f"""UPDATE remote_job SET state = 'unknown', updated_at = {tx.now}
            WHERE state IN ('submitting','waiting') AND state = 'submitting' AND updated_at <= {tx.in_seconds}
              AND NOT EXISTS (SELECT 1 FROM task_queue WHERE task_queue.id = remote_job.task_id
                AND task_queue.lease = remote_job.lease AND status = 'processing' AND worker_id IS NOT NULL)""",
        -STALE_SECONDS,
    )


def count_open(tx: Transaction, name: str) -> int:
    """How many of a provider's jobs are on their way or waiting."""
    return int(
        tx.value(
            "SELECT count(*) FROM remote_job WHERE provider = ? AND state IN ('submitting','waiting')", name
        )
    )


def _move(tx: Transaction, evidence: Evidence, state: RemoteState, remote_id: str | None = None) -> bool:
    touched = tx.run(
        f"""UPDATE remote_job SET state = ?, remote_id = coalesce(remote_id, ?), updated_at = {tx.now}
            WHERE id = ? AND state IN ({_listed(sources(state))})""",
        state.value, remote_id, evidence.id,
    )  # fmt: skip
    return touched == 1


def _take_room(tx: Transaction, name: str, limits: ProviderLimits) -> None:
    """One of the provider's places and one of its tokens.  Raises ProviderFull, ProviderTooFast.

    The bucket holds a second's worth of requests and fills at `rps`; the UPDATE comes first, since it locks the row.
    """
    if not limits.rps and not limits.concurrency:
        return
    most = max(1.0, limits.rps)
    tx.execute("INSERT INTO provider_state (name, tokens) VALUES (?, ?) ON CONFLICT DO NOTHING", name, most)
    tokens = tx.value(
        f"""UPDATE provider_state SET refilled_at = {tx.now},
            tokens = min(?, tokens + ? * max(0.0, (julianday({tx.now}) - julianday(refilled_at)) * 86400.0))
            WHERE name = ? RETURNING tokens""",
        most, limits.rps, name,
    )  # fmt: skip
    if limits.concurrency and count_open(tx, name) >= limits.concurrency:
        raise ProviderFull(name, limits.concurrency)
    if limits.rps:
        if tokens < 1:
            raise ProviderTooFast(name, limits.rps, (1 - tokens) / limits.rps)
        tx.execute("UPDATE provider_state SET tokens = tokens - 1 WHERE name = ?", name)


def _listed(states: frozenset[RemoteState] | list[RemoteState]) -> str:
    return ",".join(f"'{state}'" for state in sorted(states))
