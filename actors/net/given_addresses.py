"""Addresses from users and services, requested exactly as they were given.  Pure.

A host may sign the text of its addresses.  A client that rewrites percent-escapes (`%2f` as `%2F` or `/`, `%7E` as `~`)
sends another text, and is refused.  So path and query stay unchanged byte by byte; only characters that a request's
first line can't hold, spaces and non-ASCII ones, are percent-escaped.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, urljoin

from yarl import URL

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PARTS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<authority>[^/?#]*)(?P<rest>[^#]*)")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UNTOUCHED = "".join(map(chr, range(0x21, 0x7F)))


def as_given(address: str) -> URL:
    """A URL with exactly this path and query; its host is in the form that a resolver takes.

    Raises ValueError if it is not an absolute address, or has control characters.
    """
    parts = _PARTS.match(address)
    if parts is None or _CONTROL.search(address) or " " in parts["authority"]:
        raise ValueError("no address that can be asked for")
    plain = URL(address)
    rest = quote_from_bytes(parts["rest"].encode("utf-8", "surrogateescape"), safe=_UNTOUCHED)
    if not rest.startswith("/"):
        rest = f"/{rest}"
    return URL(f"{plain.scheme}://{plain.raw_authority}{rest}", encoded=True)


def redirected(address: str, location: str) -> str:
    """The target of a redirect: the server's `Location`, which may be relative, exactly as written."""
    location = location.strip()
    if _ABSOLUTE.match(location):
        return location
    if location.startswith("/") and not location.startswith("//"):  # urljoin would remove dots from it
        return urljoin(address, "/") + location[1:]
    return urljoin(address, location)
