"""Deliver webhooks: one POST each, signed, to a public address, without following where it is sent on to.

A delivery runs on the event loop and holds no thread, so a receiver that hangs costs memory alone.  If the worker dies
during a delivery, the delivery becomes due again after a minute.  The receiver may then get it twice, and recognises it
by its id.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import aiohttp
import structlog

from actors.attempts.task_spans import contexts_of, named_in_logs
from actors.net.given_addresses import as_given
from actors.net.public_addresses import NotPublic, PublicResolver, is_private_literal
from actors.providers.common.answers import retry_after
from actors.providers.provider_context import provider_context_of
from supervisor.core.errors import DatabaseBusy, Fault, OutcomeUnknown, drop_frames
from supervisor.database.interface.database import Transaction
from supervisor.net.http_session import open_session
from supervisor.net.name_resolver import PooledResolver
from supervisor.pictures.media_types import type_of_file
from supervisor.store.sql.row_isolation import Aside, Refused
from supervisor.store.webhooks import deliveries
from supervisor.store.webhooks.deliveries import Delivery, Message
from supervisor.telemetry import tracing
from supervisor.webhooks.door_message import door_message_body
from supervisor.webhooks.message import message_body
from supervisor.webhooks.schedule import Again, End, after_failure, is_accepted
from supervisor.webhooks.signature import signed_headers
from supervisor.webhooks.signing_keys import keys_of_user, webhook_keys

if TYPE_CHECKING:
    from actors.worker.worker import Worker

log = structlog.get_logger(__name__)

TIME_OUT_SECONDS = 20.0
USER_AGENT = "Darkroom-Webhooks/1"


class NotDelivered(Exception):
    """str() is a sentence.  status: of the answer, if there is one.  is_final: a retry would not help."""

    def __init__(
        self, sentence: str, *, status: int | None = None, retry_after: float = 0.0, is_final: bool = False
    ) -> None:
        super().__init__(sentence)
        self.status, self.retry_after, self.is_final = status, retry_after, is_final


async def deliver_all(worker: Worker, hints: Sequence[Delivery]) -> None:
    """Claim these deliveries, and send them in parallel; returns before they are sent."""
    if worker.draining:
        return  # another worker gets them soon

    def claim(tx: Transaction) -> tuple[list[Message], list[Refused]]:
        aside = Aside()
        return deliveries.claim(tx, hints, aside), aside.refused

    try:
        messages, refused = await worker.database.write_async(claim)
    except (DatabaseBusy, OutcomeUnknown) as fault:
        log.warning("webhook_claim_failed", reason=str(fault))
        return  # due again in a moment
    worker.refusals.tell(log, refused, time.monotonic())
    contexts = await contexts_of(worker, [message.task_id for message in messages])
    for message in messages:
        context = contexts.get(message.task_id, "")
        with structlog.contextvars.bound_contextvars(**named_in_logs(context)):
            worker.finish(_deliver(worker, message, context))


async def _deliver(worker: Worker, message: Message, context: str) -> None:
    """context: of the task's trace, if it has one."""
    try:
        with tracing.span("webhook", "client", parent=context) as span:
            span.set_attributes(task_id=message.task_id, webhook=message.id, attempt=message.attempts)
            status = await _send(worker, message)
            span.set_attributes(status=status)
    except NotDelivered as failure:
        drop_frames(failure)  # a client's error of a connection knows its request, which knows the error
        await _note_failure(worker, message, failure)
    except (Fault, OSError):
        log.exception("webhook_not_sent", task=message.task_id, webhook=message.id)
    else:
        await worker.write(lambda tx: deliveries.delivered(tx, message, status))
        log.info("webhook_delivered", task=message.task_id, webhook=message.id, attempts=message.attempts)


async def _note_failure(worker: Worker, message: Message, failure: NotDelivered) -> None:
    verdict = after_failure(
        message.attempts, failure.status, is_final=failure.is_final, chance=random.random(),
        retry_after=failure.retry_after,
    )  # fmt: skip
    if verdict is End.GONE:
        await worker.write(lambda tx: deliveries.receiver_is_gone(tx, message))
        log.warning("webhook_receiver_gone", task=message.task_id, webhook=message.id)
        return
    pause = verdict.in_seconds if isinstance(verdict, Again) else None
    await worker.write(
        lambda tx: deliveries.put_off(tx, message, pause, status=failure.status, reason=str(failure))
    )
    log.warning(
        "webhook_not_delivered" if pause is None else "webhook_delayed",
        task=message.task_id, webhook=message.id, attempts=message.attempts, reason=str(failure), seconds=pause,
    )  # fmt: skip


async def _send(worker: Worker, message: Message) -> int:
    """The status of a confirming answer.  Raises NotDelivered."""
    allow_private = worker.settings.webhooks.allow_private_addresses
    translation = worker.settings.translation_prefixes
    try:
        url = as_given(message.url)
    except ValueError:
        raise NotDelivered("The address is none that can be asked for.", is_final=True) from None
    if not allow_private and (url.scheme != "https" or is_private_literal(url.host or "", *translation)):
        raise NotDelivered("The address is not a public https address.", is_final=True)
    context = await asyncio.to_thread(provider_context_of, worker)
    if message.door is None:
        keys = await asyncio.to_thread(webhook_keys, worker.settings)
        body = message_body(message.type, message.ended_at, message.data, context.address_of)
    else:
        keys = await asyncio.to_thread(keys_of_user, worker.settings, message.user)
        body = door_message_body(message.door, message.data, message.params, context.links.link, type_of_file)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        **signed_headers(keys, message.id, int(time.time()), body),
    }
    whose = message.user
    resolver = PooledResolver(whose=whose) if allow_private else PublicResolver(*translation, whose=whose)
    timeout = aiohttp.ClientTimeout(total=TIME_OUT_SECONDS)
    try:
        async with (
            open_session(resolver=resolver, timeout=timeout) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            return _accepted(response)
    except TimeoutError:
        raise NotDelivered(f"The receiver has not answered within {TIME_OUT_SECONDS:g} s.") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, NotPublic):
            raise NotDelivered(f"The address is not public: {error.os_error}.", is_final=True) from None
        raise NotDelivered("The receiver can't be reached.") from None
    except (aiohttp.ClientError, OSError, ValueError):
        raise NotDelivered("The receiver broke off, or answered what is not HTTP.") from None


def _accepted(response: aiohttp.ClientResponse) -> int:
    """The status, if it confirms.  The body is not read."""
    if is_accepted(response.status):
        return response.status
    if 300 <= response.status < 400:
        sentence = f"The receiver answers {response.status}; redirects are not followed."
    else:
        sentence = f"The receiver answers {response.status}."
    wished = retry_after(response.headers, time.time()) or 0.0
    raise NotDelivered(sentence, status=response.status, retry_after=wished)
