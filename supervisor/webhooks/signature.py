"""Standard Webhooks: the signature that proves the sender of a message.  Source: standard-webhooks.md, "Signature
scheme".

The receiver knows the key, computes the same HMAC over id, time and body, and compares.  The id is the same at every
sending, so that the receiver can ignore repeated messages; the time is that of the sending, so that the message can't
be replayed later.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence


def signed_headers(keys: Sequence[str], message_id: str, sent_at: int, body: bytes) -> dict[str, str]:
    """The three headers of a message.  keys: `whsec_…`, one signature for each.  sent_at: seconds since 1970."""
    to_sign = f"{message_id}.{sent_at}.".encode() + body
    signatures = (hmac.digest(_key(each), to_sign, hashlib.sha256) for each in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }


def _key(text: str) -> bytes:
    return base64.b64decode(text.partition("_")[2])
