"""The actors of cancels and webhooks, on the control queue: a message is a batch of hints which rows to read."""

from __future__ import annotations

from collections.abc import Sequence

import dramatiq

from actors.broker.broker import CONTROL_QUEUE

TIME_LIMIT_MS = 60_000


@dramatiq.actor(queue_name=CONTROL_QUEUE, time_limit=TIME_LIMIT_MS)
async def cancel_remote(ids: Sequence[int]) -> None:
    """Send the cancels of these remote jobs to their services.  ids: of remote_job."""
    # Not at the top: dispatcher, scheduler and producers import this file, and run nothing.
    from actors.remote_jobs.cancel_jobs import cancel_jobs
    from actors.worker.worker import current_worker

    await cancel_jobs(current_worker(), ids)


@dramatiq.actor(queue_name=CONTROL_QUEUE, time_limit=TIME_LIMIT_MS)
async def deliver_webhooks(hints: Sequence[tuple[str, int]]) -> None:
    """Send these webhooks.  hints: at most `claim_sender.BATCH` pairs of delivery and dispatch."""
    # Not at the top: it imports an HTTP client, which most processes never need.
    from actors.webhooks.webhook_delivery import deliver_all
    from actors.worker.worker import current_worker
    from supervisor.store.webhooks.deliveries import Delivery

    await deliver_all(current_worker(), [Delivery(*hint) for hint in hints])
