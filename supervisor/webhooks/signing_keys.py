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
_OF_USER = b"darkroom webhooks of a user 1"


def webhook_keys(settings: Settings) -> tuple[str, ...]:
    """`whsec_…`, the newest first.  Raises OSError if there is no secret and none can be created."""
    if settings.webhooks.secret is not None:
        return tuple(settings.webhooks.secret.get_secret_value().split())
    before = secret_before(settings)
    secrets = (read_or_make_secret(settings), *([before] if before is not None else []))
    return tuple(derived_key(secret) for secret in secrets)  # both sign while receivers change to the new one


def keys_of_user(settings: Settings, user: str) -> tuple[str, ...]:
    """`whsec_…` of one user, the newest first: for webhooks that a user verifies with a key which they may know.

    Raises as `webhook_keys`.
    """
    before = secret_before(settings)
    secrets = (read_or_make_secret(settings), *([before] if before is not None else []))
    return tuple(key_of_user(secret, user) for secret in secrets)


def key_of_user(secret: str, user: str) -> str:
    """The key that follows from a secret for one user; it says nothing of the deployment's or of another user's."""
    digest = hmac.digest(secret.encode(), _OF_USER + b"\n" + user.encode(), hashlib.sha256)
    return PREFIX + base64.b64encode(digest).decode()


def derived_key(secret: str) -> str:
    """The key derived from a secret."""
    digest = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
    return PREFIX + base64.b64encode(digest).decode()
