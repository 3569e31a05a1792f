"""Evidence of paid requests: recorded before a request is sent, and completed when its end is known.

`begin` is the only gate: no paid request is sent without it.  In one transaction it checks the lease, refuses a request
that may have been billed already, takes a token of the provider's bucket and a place among its open jobs, and writes
the row.  So the limits hold across all hosts, and no step back to pending can lead to a second bill without permission.

Terms: a *part* is one request of an attempt, counted from 0; an attempt that needs several has as many rows.  A part is
*waiting* while its service works on it; the next attempt of the charge resumes it and sends no new request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost, MayBeBilledAlready
from supervisor.database.interface.database import Row, Transaction
from supervisor.remote.job_states import UNANSWERED, RemoteState, sources
from supervisor.remote.unclear_answers import Doubt, Doubts
from supervisor.schema.shared.retention_guards import must_keep_remote_job
from supervisor.schema.tables import HELD, OPEN, UNSETTLED
from supervisor.store.limits import providers
from supervisor.store.limits.providers import count_open as count_open
from supervisor.store.sql.conditions import listed, of_steps
from supervisor.store.sql.row_isolation import Aside, delete_oldest
from supervisor.store.sql.rows import decoded, encoded

# A live worker that has lost its lease notices that within a heartbeat, and records what it knows.
STALE_SECONDS = 30
_OF_STEP = "task_id = :task_id AND charge = :charge AND step = :step"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A row of remote_job.  reference: unique, the request's name for the service.

    probe: its number, if it tests whether a service is up again.
    """

    id: int
    reference: str
    probe: int | None = None


@dataclasses.dataclass(frozen=True)
class RemoteJob:
    """A part that its service works on.  remote_id: empty if only a report has come for it so far.

    pictures: the numbers of the pictures that it makes.  details: values of its adapter.  reports: whether its service
    reports the end by itself.  age_seconds: since it was begun.  doubts: the number of unclear answers in a row.
    """

    id: int
    task_id: str
    charge: int
    step: int
    lease: int
    provider: str
    reference: str
    remote_id: str
    pictures: tuple[int, ...]
    details: Mapping[str, Any]
    reports: bool
    age_seconds: float
    doubts: Doubts = dataclasses.field(default_factory=Doubts)


def reference_of(task_id: str, charge: int, step: int, lease: int, part: int) -> str:
    """The name of a request, which no other has.  An id holds no full stop.

    It is never taken apart: requests from before there were steps have names without one.
    """
    return f"{task_id}.{charge}.{lease}.{step}.{part}"


def begin(
    tx: Transaction,
    claim: Claim,
    name: str,
    provider: Provider,
    part: int,
    *,
    pictures: Sequence[int] = (),
    careful: Set[str] = frozenset(),
    probe_seconds: float = 300.0,
) -> Evidence:
    """Record that a request for these pictures is about to be sent.  name: the provider's.

    careful: names of other providers that may not bill twice.  probe_seconds: how long a probe may take.
    Raises LeaseLost; MayBeBilledAlready when an earlier attempt's request of this step and charge is unanswered and its
    provider, or this one, may not bill twice, or when a service works on one of these pictures already;
    ProviderIsDown, ProviderFull, ProviderTooFast.  Nothing is changed then.
    """
    held = tx.value(
        f"""SELECT 1 FROM task_queue WHERE id = :task_id AND lease = :lease AND {HELD}
            AND status = 'processing'{tx.for_update}""",
        task_id=claim.task_id, lease=claim.lease,
    )  # fmt: skip
    if held is None:
        raise LeaseLost(claim.task_id, claim.lease)
    asked = unanswered(tx, *claim.of_step, before_lease=claim.lease)
    if asked and (not provider.may_bill_twice or asked & careful):
        raise MayBeBilledAlready(claim.task_id)
    if _is_at_work(tx, claim, pictures):
        raise MayBeBilledAlready(claim.task_id)
    probe = providers.take_room(tx, name, provider.limits, probe_seconds=probe_seconds)
    reference = reference_of(*claim.of_step, claim.lease, part)
    evidence = tx.value(
        f"""INSERT INTO remote_job
                (task_id, charge, step, lease, provider, reference, pictures, state, created_at, updated_at)
            VALUES (:task_id, :charge, :step, :lease, :name, :reference, :pictures, 'submitting', {tx.now}, {tx.now})
            RETURNING id""",
        task_id=claim.task_id, charge=claim.charge, step=claim.step, lease=claim.lease, name=name, reference=reference,
        pictures=encoded(list(pictures)),
    )  # fmt: skip
    return Evidence(int(evidence), reference, probe)


def is_begun(tx: Transaction, evidence: Evidence) -> bool:
    """Whether the row was stored and its attempt still holds the task."""
    found = tx.value(
        f"""SELECT 1 FROM remote_job JOIN task_queue
                ON task_queue.id = remote_job.task_id AND task_queue.lease = remote_job.lease
            WHERE remote_job.id = :id AND remote_job.reference = :reference AND remote_job.state = 'submitting'
              AND {HELD} AND status = 'processing'""",
        id=evidence.id, reference=evidence.reference,
    )  # fmt: skip
    return found is not None


def accepted(
    tx: Transaction,
    evidence: Evidence,
    remote_id: str,
    details: Mapping[str, Any] | None = None,
    *,
    reports: bool = False,
) -> bool:
    """Record that the service has accepted the job with this id, with any lease; False if more is known already.

    If the task is over, runs under another charge or is at another step, the job is marked for a cancel.
    """
    # Locked first: a transaction that ends the task at the same moment either sees the job as waiting, or is seen here.
    tx.one(
        f"""SELECT 1 FROM task_queue WHERE id = (SELECT task_id FROM remote_job WHERE id = :id) {tx.for_update}""",
        id=evidence.id,
    )  # fmt: skip
    touched = tx.run(
        f"""UPDATE remote_job SET state = 'waiting', remote_id = :remote_id, details = :details, reports = :reports,
            updated_at = {tx.now},
            cancel_wanted = CASE WHEN EXISTS (SELECT 1 FROM task_queue WHERE task_queue.id = remote_job.task_id
                AND task_queue.charge = remote_job.charge AND task_queue.step = remote_job.step AND {OPEN})
                THEN cancel_wanted ELSE 1 END
            WHERE id = :id AND remote_id IS NULL AND state
            IN ('waiting',{listed(sorted(sources(RemoteState.WAITING)))})""",
        remote_id=remote_id, details=encoded(dict(details or {})), reports=int(reports), id=evidence.id,
    )  # fmt: skip
    return touched == 1


def settle(
    tx: Transaction,
    evidence: Evidence | RemoteJob,
    state: RemoteState,
    *,
    without_pictures: bool = False,
    verdict: Mapping[str, Any] | None = None,
) -> bool:
    """Record the end of the request; False if that, or more, is known already.

    without_pictures: it is done and has made none, and none is missing.  verdict: what follows from its failure once
    the other jobs of its attempt are over, with the `attempt`.
    """
    touched = tx.run(
        f"""UPDATE remote_job SET state = :state, without_pictures = :without_pictures,
                verdict = coalesce({tx.as_json(":verdict")}, verdict), updated_at = {tx.now}
            WHERE id = :id AND state IN ({listed(sorted(sources(state)))})""",
        state=state.value, without_pictures=int(without_pictures), verdict=verdict and encoded(dict(verdict)),
        id=evidence.id,
    )  # fmt: skip
    return touched == 1


def keep_verdict(tx: Transaction, job: RemoteJob, verdict: Mapping[str, Any]) -> None:
    """Keep with a job that its service works on what follows from the end of another request of its step, once no job
    runs any more; with the `attempt`."""
    tx.execute(
        f"""UPDATE remote_job SET verdict = {tx.as_json(":verdict")}, updated_at = {tx.now}
            WHERE id = :id AND state = 'waiting'""",
        verdict=encoded(dict(verdict)),
        id=job.id,
    )


def verdicts(tx: Transaction, claim: Claim, *, of: RemoteJob | None = None) -> list[dict[str, Any]]:
    """What follows from the failures of requests of this attempt, that of the oldest job first; `age_seconds` says
    since when it is known.  of: only what is kept with this job."""
    rows = tx.all(
        f"""SELECT verdict, {tx.seconds_since("updated_at")} AS age FROM remote_job
            WHERE {_OF_STEP} AND verdict IS NOT NULL
              AND (CAST(:only AS BIGINT) IS NULL OR id = :only) ORDER BY id""",
        task_id=claim.task_id, charge=claim.charge, step=claim.step, only=of.id if of is not None else None,
    )  # fmt: skip
    known = [{**decoded(row["verdict"]), "age_seconds": max(0.0, row["age"])} for row in rows]
    return [each for each in known if each["attempt"] == claim.attempt]


def note_doubts(tx: Transaction, job: RemoteJob, now: Doubts) -> None:
    """Record the number of unclear answers in a row, unless another poll has counted meanwhile."""
    before = job.doubts
    if (now.kind, now.times) == (before.kind, before.times):
        return
    first = f"CASE WHEN CAST(:times AS INTEGER) = 1 THEN {tx.now} WHEN CAST(:times AS INTEGER) > 1 THEN doubted_at END"
    tx.execute(
        f"""UPDATE remote_job SET doubt = :kind, doubts = :times, doubted_at = {first}
            WHERE id = :id AND state = 'waiting' AND doubt = :kind_before AND doubts = :times_before""",
        kind=now.kind.value, times=now.times, id=job.id,
        kind_before=before.kind.value, times_before=before.times,
    )  # fmt: skip


def waiting(tx: Transaction, steps: Sequence[tuple[str, int, int]]) -> list[RemoteJob]:
    """Parts of these steps, [(task id, charge, step)], that services work on, oldest first.

    The caller names the charge and step that it holds, because the task may have others by now.
    """
    rows = tx.all(
        f"""SELECT remote_job.*, {_ages(tx)} FROM remote_job
            WHERE {of_steps(tx, "remote_job")} AND state = 'waiting' ORDER BY id""",
        steps=encoded(list(steps)),
    )
    return [_remote_job(row) for row in rows]


def providers_asked(tx: Transaction, task_id: str, charge: int, step: int) -> frozenset[str]:
    """Providers that were ever sent a request of this step, with any result."""
    rows = tx.all(
        f"SELECT DISTINCT provider FROM remote_job WHERE {_OF_STEP}",
        task_id=task_id,
        charge=charge,
        step=step,
    )
    return frozenset(row["provider"] for row in rows)


def done_without_pictures(tx: Transaction, task_id: str, charge: int, step: int) -> frozenset[int]:
    """Numbers of the pictures of this step whose requests were answered without any."""
    rows = tx.all(
        f"SELECT pictures FROM remote_job WHERE {_OF_STEP} AND state = 'done' AND without_pictures = 1",
        task_id=task_id, charge=charge, step=step,
    )  # fmt: skip
    return frozenset(n for row in rows for n in decoded(row["pictures"]))


def unwanted(tx: Transaction, ids: Sequence[int]) -> list[RemoteJob]:
    """Those of these rows whose job is still to be cancelled at its service."""
    rows = tx.all(
        f"""SELECT remote_job.*, {_ages(tx)} FROM remote_job
            WHERE id IN ({",".join(map(str, ids))}) AND state = 'waiting' AND cancel_wanted = 1
            AND remote_id IS NOT NULL ORDER BY id""",
    )
    return [_remote_job(row) for row in rows]


def unheard(tx: Transaction, task_id: str, charge: int, step: int, *, before_lease: int) -> list[RemoteJob]:
    """Unanswered requests of earlier leases of this step, oldest first."""
    rows = tx.all(
        f"""SELECT remote_job.*, {_ages(tx)} FROM remote_job
            WHERE {_OF_STEP} AND lease < :before_lease AND state
            IN ({listed(sorted(UNANSWERED))}) ORDER BY id""",
        task_id=task_id, charge=charge, step=step, before_lease=before_lease,
    )  # fmt: skip
    return [_remote_job(row) for row in rows]


def unanswered(
    tx: Transaction, task_id: str, charge: int, step: int, *, before_lease: int | None = None
) -> frozenset[str]:
    """Providers with an unanswered request of this step.

    before_lease: only requests of earlier leases.
    """
    rows = tx.all(
        f"""SELECT DISTINCT provider FROM remote_job WHERE {_OF_STEP}
            AND state IN ({listed(sorted(UNANSWERED))})
            AND (CAST(:before_lease AS INTEGER) IS NULL OR lease < :before_lease)""",
        task_id=task_id, charge=charge, step=step, before_lease=before_lease,
    )  # fmt: skip
    return frozenset(row["provider"] for row in rows)


def count_cut_off(tx: Transaction, task_id: str, charge: int, step: int) -> int:
    """How often a service lost an order of this step: the request stayed unanswered, or the service lost the job."""
    return int(
        tx.value(
            f"SELECT count(*) FROM remote_job WHERE {_OF_STEP} AND state IN ('unknown','lost')",
            task_id=task_id,
            charge=charge,
            step=step,
        )
    )


def has_another_part(tx: Transaction, task_id: str, charge: int, step: int) -> bool:
    """Whether a service has done a part of this step, or works on one."""
    found = tx.value(
        f"SELECT 1 FROM remote_job WHERE {_OF_STEP} AND state IN ('waiting','done') LIMIT 1",
        task_id=task_id,
        charge=charge,
        step=step,
    )
    return found is not None


def mark_unknown(tx: Transaction, task_id: str, charge: int, step: int) -> None:
    """Set this step's open requests to unknown: their answers can't arrive any more."""
    tx.execute(
        f"""UPDATE remote_job SET state = 'unknown', updated_at = {tx.now}
            WHERE {_OF_STEP} AND state = 'submitting'""",
        task_id=task_id, charge=charge, step=step,
    )  # fmt: skip


def close_stale(tx: Transaction) -> int:
    """Set open requests of ended attempts to unknown; otherwise they would hold the provider's places for ever.

    Such rows remain if a task was cancelled and its worker died before it noticed that.  Returns how many there were,
    without those that other transactions have locked.
    """
    return tx.run(
        f"""UPDATE remote_job SET state = 'unknown', updated_at = {tx.now} WHERE id IN (SELECT id FROM remote_job
            WHERE {UNSETTLED} AND state = 'submitting'
            AND updated_at <= {tx.ago(":stale_seconds")}
              AND NOT EXISTS (SELECT 1 FROM task_queue WHERE task_queue.id = remote_job.task_id
                AND task_queue.lease = remote_job.lease AND {HELD} AND status = 'processing')
            {tx.for_update_of_free("remote_job")})""",
        stale_seconds=STALE_SECONDS,
    )


def prune(tx: Transaction, older_than_seconds: float, most: int, aside: Aside | None = None) -> int:
    """Delete the oldest evidence of requests that ended long ago; how many rows.

    Ids follow time, so only the first rows are read; rows of a task that stays open so long stop the deletion.
    """
    is_over = f"NOT {must_keep_remote_job('oldest')}"
    return delete_oldest(tx, "remote_job", "updated_at", older_than_seconds, most, aside, only=is_over)


def _is_at_work(tx: Transaction, claim: Claim, pictures: Sequence[int]) -> bool:
    """Whether a service works on one of these pictures for an earlier lease; a request without numbers is for all."""
    rows = tx.all(
        f"""SELECT pictures FROM remote_job WHERE {_OF_STEP} AND lease < :lease AND state = 'waiting'""",
        task_id=claim.task_id, charge=claim.charge, step=claim.step, lease=claim.lease,
    )  # fmt: skip
    at_work = [set(decoded(row["pictures"])) for row in rows]
    return any(not theirs or not pictures or theirs & set(pictures) for theirs in at_work)


def _ages(tx: Transaction) -> str:
    return f"{tx.seconds_since('created_at')} AS age, {tx.seconds_since('doubted_at')} AS doubted_for"


def _remote_job(row: Row) -> RemoteJob:
    return RemoteJob(
        id=row["id"],
        task_id=row["task_id"],
        charge=row["charge"],
        step=row["step"],
        lease=row["lease"],
        provider=row["provider"],
        reference=row["reference"],
        remote_id=row["remote_id"] or "",
        pictures=tuple(decoded(row["pictures"])),
        details=decoded(row["details"]),
        reports=bool(row["reports"]),
        age_seconds=max(0.0, row["age"]),
        doubts=Doubts(Doubt(row["doubt"]), row["doubts"], max(0.0, row["doubted_for"] or 0.0)),
    )
