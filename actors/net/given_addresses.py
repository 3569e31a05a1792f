"""Addresses that somebody gave us, asked for as they were given.  Pure.

A host that signs addresses may sign their text.  An HTTP client that spells percent-escapes its own way (`%2f` as `%2F`
or `/`, `%7E` as `~`) asks for another text, and is refused.  So path and query stay byte for byte what they were; only
what can't stand in a request's first line, spaces and other than ASCII, is written as percent-escapes.
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
    """A URL that is asked for with this very path and query; its host is in the form that a resolver takes.

    Raises ValueError for what is no absolute address, and for one with control characters.
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
    """Where a server at this address sends us: its `Location`, which may be relative, as it spelled it."""
    location = location.strip()
    if _ABSOLUTE.match(location):
        return location
    if location.startswith("/") and not location.startswith("//"):  # urljoin would take dots out of it
        return urljoin(address, "/") + location[1:]
    return urljoin(address, location)
