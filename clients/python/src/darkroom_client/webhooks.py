"""Webhooks: whether a message is Darkroom's, and what it says (Standard Webhooks, "Signature scheme").

A message may come more than once, always with the same `id`.  Whoever acts on it stores the id in the same transaction
as the act, and does nothing the second time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from darkroom_client.errors import WebhookRefused
from darkroom_client.models import Task, task_of, time_of

TOLERANCE_SECONDS = 300.0
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
MOST_SIGNATURES = 16


@dataclass(frozen=True)
class WebhookMessage:
    """id: the same at each sending.  at: the time of the change.  task: as it was then."""

    id: str
    type: Literal["task.completed", "task.failed", "task.cancelled"]
    at: datetime
    task: Task


def verify_webhook(
    key: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
    base_url: str = "",
) -> WebhookMessage:
    """The message, if it is Darkroom's.  Raises WebhookRefused, and ValueError for a key that is none.

    key: what `darkroom webhooks secret` prints; several, divided by spaces, while it is changed.  headers: of the
    request, in upper or lower case.  body: the bytes as they came, before anything has parsed them.
    tolerance_seconds: how old, or how far ahead, the message may be.  now: seconds since 1970; the clock's if None.
    base_url: Darkroom's address, for links that come without one.
    """
    found = {name.lower(): value for name, value in headers.items()}
    if any(name not in found for name in _HEADERS):
        raise WebhookRefused(f"A message of Darkroom's has the headers {', '.join(_HEADERS)}.")
    id_, sent_at, signatures = (found[name] for name in _HEADERS)
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 15):
        raise WebhookRefused("webhook-timestamp is no time.")
    # Servers hand a byte that is no text on as a surrogate: a stranger may send any.
    to_sign = f"{id_}.{sent_at}.".encode(errors="surrogatepass") + body
    given = [
        each[3:].encode(errors="surrogatepass")
        for each in signatures.split(" ")[:MOST_SIGNATURES]
        if each.startswith("v1,")
    ]
    expected = [base64.b64encode(hmac.digest(each, to_sign, hashlib.sha256)) for each in _keys_of(key)]
    # Each comparison takes the same time: nothing tells how much of a wrong signature was right.
    if not any(hmac.compare_digest(one, other) for one in given for other in expected):
        raise WebhookRefused("The signature is not Darkroom's, or the message was altered.")
    age = (time.time() if now is None else now) - int(sent_at)
    if abs(age) > tolerance_seconds:
        raise WebhookRefused(
            f"The message was sent {age:.0f} seconds ago; at most {tolerance_seconds:g} are accepted."
        )
    try:
        told = json.loads(body)
        type_ = cast(Literal["task.completed", "task.failed", "task.cancelled"], told["type"])
        return WebhookMessage(
            id_, type_, time_of(told["timestamp"]), task_of(told["data"], base_url.rstrip("/"))
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WebhookRefused(f"The message can't be read: {error!r}") from None


def _keys_of(text: str) -> list[bytes]:
    keys = []
    for each in text.split():
        prefix, _, encoded = each.partition("_")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if prefix != "whsec" or not key:
            raise ValueError("A webhook's key is whsec_ and Base64, as `darkroom webhooks secret` prints it.")
        keys.append(key)
    if not keys:
        raise ValueError("Give the webhook's key: `darkroom webhooks secret` prints it.")
    return keys
