"""Keys for CloudBase's server SDKs: a secretId that is a name, and a secretKey derived from the secret.  Nothing is
stored.

A program with a key has the role of a service and acts for any user.  The key is derived for this purpose alone, so no
other signature of the secret can serve as a key.  Another secret gives another key; while the secret is being changed,
keys of the secret before are valid too.
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
    """The id that the SDK sends.  Raises ValueError for a text that can't be a name."""
    if not is_key_name(name):
        raise ValueError("a key is named by 1-64 characters of A-Z a-z 0-9 _ . -")
    return _PREFIX + name


def secret_key(secret: str, of_id: str) -> str:
    """The key for any id: 64 hexadecimal digits."""
    return hmac.digest(secret.encode(), f"{_PURPOSE}\n{of_id}".encode(), hashlib.sha256).hex()


def is_secret_id(text: str) -> bool:
    """Whether the key belongs to this id."""
    return text.startswith(_PREFIX) and is_key_name(text.removeprefix(_PREFIX))
