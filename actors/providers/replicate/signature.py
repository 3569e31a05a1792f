"""The signature of a webhook (Standard Webhooks, which Replicate uses).  Pure.

Its age is not checked: a report waits in our table while the workers are away, and reading it twice changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

_PREFIX = "whsec_"


def is_signed(headers: Mapping[str, str], body: bytes, key: str) -> bool:
    """Whether the report was signed with this key.  headers: with lower-case names.  key: in Replicate's form,
    whsec_…"""
    try:
        secret = base64.b64decode(key.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode() + body
    right = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split()
    return any(
        hmac.compare_digest(each.partition(",")[2].encode(), right.encode())
        for each in given
        if each.startswith("v1,")
    )
