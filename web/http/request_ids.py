"""The id of a request: in its answer (`X-Request-Id`), in its line of the access log, and in the body of its error.

A caller, or a proxy before us, may give the id, so that its own log and ours name the same one.  A foreign id stands in
a log, so it is short and of harmless characters, or it is not taken.
"""

from __future__ import annotations

import re
import secrets

from aiohttp import web

HEADER = "X-Request-Id"
MOST_CHARACTERS = 128

_GIVEN = re.compile(f"[A-Za-z0-9._~:@/+=-]{{1,{MOST_CHARACTERS}}}")
_ID = web.RequestKey("REQUEST_ID", str)


def request_id_of(request: web.Request) -> str:
    """The caller's id if it is well-formed, else one of our own; the same at each call."""
    known = request.get(_ID)
    if known is None:
        given = request.headers.getall(HEADER, [])
        is_taken = len(given) == 1 and _GIVEN.fullmatch(given[0]) is not None
        known = request[_ID] = given[0] if is_taken else new_request_id()
    return known


def new_request_id() -> str:
    """16 characters with 96 bits of chance: each line of the log has one."""
    return secrets.token_urlsafe(12)


async def tell_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Before any answer's head is sent: add the id, unless a door names its task there."""
    response.headers.setdefault(HEADER, request_id_of(request))
