"""The Idempotency-Key header: a repeated request is answered with the result of the first one.

draft-ietf-httpapi-idempotency-key-header-07: the key is a structured-field string (`"8e03978e-…"`); it is also accepted
without quotation marks, as most clients send it.  Only answers that name a task are kept (200 and 202), so a refused
request may be corrected and sent again with its key.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from aiohttp import web

from supervisor.store.tasks.new_task import Key
from web.http.problems import unprocessable

MOST_KEY_CHARACTERS = 255
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
REPLAYED = {"Idempotent-Replayed": "true"}
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')  # RFC 8941, section 3.3.3
# Visible characters without quotation mark, backslash, comma, semicolon.
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")


def key_of(request: web.Request, user: str, body: Any = None) -> Key | None:
    """The request's key, None without one.  body: the JSON value that was sent.  Raises a Problem."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    text = parse_key(given[0]) if len(given) == 1 else None
    if text is None:
        raise unprocessable(
            "/Idempotency-Key",
            f"Idempotency-Key must be one string of 1-{MOST_KEY_CHARACTERS} visible characters.",
        )
    return Key(user, request.method, request.path, text, hash_of(body))


def parse_key(header: str) -> str | None:
    """The key that a header holds, quoted or not; None for anything else."""
    header = header.strip(" \t")
    quoted, bare = _QUOTED.fullmatch(header), _BARE.fullmatch(header)
    text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    return text if (quoted or bare) and len(text) <= MOST_KEY_CHARACTERS else None


def hash_of(body: Any) -> str:
    """SHA-256 of the value in canonical form, without regard to the order of members and white space."""
    return hashlib.sha256(_CANONICAL.encode(body).encode()).hexdigest()
