"""The Idempotency-Key header: a request that is sent again is answered with what its first sending has made.

draft-ietf-httpapi-idempotency-key-header-07: the key is a structured-field string (`"8e03978e-…"`); it is taken
without quotation marks too, as most clients send it.  Only answers that name a task are kept (200 and 202), so what
was refused may be mended and sent again under its key.
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
REPLAYED = {"Idempotent-Replayed": "true"}
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')  # RFC 8941, section 3.3.3
_BARE = re.compile(
    r"[!#-+\--:<-\[\]-~]+"
)  # what is visible, less quotation mark, backslash, comma, semicolon


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
    """SHA-256 of the value in canonical form: the order of members and white space don't count."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
