"""Links to stored files that prove themselves and expire: `/files/{key}?exp=<seconds since 1970>&sig=<signature>`.

A link is made when it is sent and never stored, so a leaked one is worthless after `FILE_LINK_SECONDS`.  The
signature is HMAC-SHA256 over key and expiry with a key derived from the secret, so that a signature for one purpose
can't serve another.  Expiries fall on a coarse grid: all links made within 1/24 of the lifetime are the same text, so a
browser that has the picture need not fetch it again.  A link is therefore valid for between 23/24 and the whole of the
lifetime.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

_PURPOSE = b"darkroom file links 1"
_SIGNATURE_BYTES = 18  # 144 bits, 24 characters
_STEPS_A_LIFETIME = 24


class LinkSigner:
    """Makes links with one secret.  lifetime_seconds: how long a new link is valid.

    before: another secret; its links are valid too, until they expire.
    """

    def __init__(self, secret: str, lifetime_seconds: float, *, before: str | None = None) -> None:
        secrets = (secret,) if before is None else (secret, before)
        self._keys = [hmac.digest(each.encode(), _PURPOSE, hashlib.sha256) for each in secrets]
        self._lifetime = lifetime_seconds
        self._step = max(1.0, lifetime_seconds / _STEPS_A_LIFETIME)

    def link(self, key: str, now: float | None = None) -> str:
        """The path and query of a link to the file.  now: seconds since 1970."""
        wanted = (time.time() if now is None else now) + self._lifetime
        expires = int(wanted - wanted % self._step)
        return f"/files/{quote(key)}?exp={expires}&sig={_signature(self._keys[0], key, str(expires))}"

    def holds(self, key: str, expires: str, signature: str, now: float | None = None) -> bool:
        """Whether this link has a valid signature and has not expired."""
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12 and signature.isascii()):
            return False
        if not any(hmac.compare_digest(_signature(own, key, expires), signature) for own in self._keys):
            return False
        return (time.time() if now is None else now) < int(expires)


def _signature(own: bytes, key: str, expires: str) -> str:
    digest = hmac.digest(own, f"{key}\n{expires}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:_SIGNATURE_BYTES]).decode()
