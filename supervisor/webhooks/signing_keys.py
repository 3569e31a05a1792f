"""The keys that sign webhooks: the configured ones, or one derived from the secret.

A derived key is the same on all hosts and at every start, and needs no other file.  It reveals nothing about the
secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from config.settings import Settings
from config.webhooks import PREFIX
from supervisor.security.secret import read_or_make_secret, secret_before

_PURPOSE = b"darkroom webhooks 1"


def webhook_keys(settings: Settings) -> tuple[str, ...]:
    """`whsec_…`, the newest first.  Raises OSError if there is no secret and none can be created."""
    if settings.webhooks.secret is not None:
        return tuple(settings.webhooks.secret.get_secret_value().split())
    before = secret_before(settings)
    secrets = (read_or_make_secret(settings), *([before] if before is not None else []))
    return tuple(derived_key(secret) for secret in secrets)  # both sign while receivers change to the new one


def derived_key(secret: str) -> str:
    """The key derived from a secret."""
    digest = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
    return PREFIX + base64.b64encode(digest).decode()
