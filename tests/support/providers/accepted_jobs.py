"""Remote jobs that a service has accepted, by the store alone, and as much of a worker as polls them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from actors.remote_jobs import poll_batch
from actors.worker.worker import Running
from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence
from supervisor.store.tasks import remote_wait
from tests.conftest import Store

CAREFUL = Provider(kind="http", may_bill_twice=False)


def begin(store: Store, claim: Claim, provider: Provider = CAREFUL, **more: Any) -> Evidence:
    given = {"pictures": (0,), "part": 0} | more
    part = given.pop("part")
    return store.write(lambda tx: remote_jobs.begin(tx, claim, "ai", provider, part, **given))


def accept(store: Store, evidence: Evidence) -> None:
    assert store.write(lambda tx: remote_jobs.accepted(tx, evidence, f"job-of-{evidence.reference}"))


def hand_off(store: Store, claim: Claim) -> None:
    store.write(
        lambda tx: remote_wait.hand_off(
            tx, claim.task_id, claim.lease, poll_in_seconds=0, remote_limit_seconds=3600
        )
    )


def claimed_again(store: Store, claim: Claim, worker: str = "worker-1") -> Claim:
    (again,) = [each for each in store.dispatch(worker) if each.task_id == claim.task_id]
    return again


def poller(store: Store, database: Any) -> Any:
    """As much of a worker as a poll needs."""
    return SimpleNamespace(
        settings=store.settings,
        database=database,
        write=store.database.write_async,
        id="worker-1",
        running=set(),
        draining=False,
        may_start_requests=lambda: True,
        has_ended=lambda running: None,
    )


async def poll(store: Store, database: Any) -> None:
    (claim,) = store.claim_polls()
    await poll_batch.poll_tasks(poller(store, database), [(polling_of(claim), claim)])


def polling_of(claim: Claim) -> Running:
    return Running(claim.task_id, claim.lease, takes_slot=False)
