"""Keys for CloudBase's server SDKs: a secretId that is a name, and a secretKey made of the secret.  Nothing is stored.

Whoever holds one is a service and acts for any user.  The key is derived for this purpose alone, so that no other
signature under the secret serves as one; another secret makes another key, and while the secret is being changed the
one before still does.
"""

from __future__ import annotations

import hashlib
import hmac
import re

_PURPOSE = "darkroom cloudbase key 1"
_PREFIX = "darkroom-"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def is_key_name(text: str) -> bool:
    """Whether a string may name a key: 1-64 characters of A-Z a-z 0-9 _ . -."""
    return _NAME.fullmatch(text) is not None


def secret_id(name: str) -> str:
    """The id that the SDK sends.  Raises ValueError for what can't be a name."""
    if not is_key_name(name):
        raise ValueError("a key is named by 1-64 characters of A-Z a-z 0-9 _ . -")
    return _PREFIX + name


def secret_key(secret: str, of_id: str) -> str:
    """The key that belongs to an id, known or not: 64 hexadecimal digits."""
    return hmac.digest(secret.encode(), f"{_PURPOSE}\n{of_id}".encode(), hashlib.sha256).hex()


def is_secret_id(text: str) -> bool:
    """Whether a key can have been printed with this id."""
    return text.startswith(_PREFIX) and is_key_name(text.removeprefix(_PREFIX))
