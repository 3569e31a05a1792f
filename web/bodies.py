"""What comes in: JSON bodies, and the query parameters that lists share."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from web.problems import Problem, unprocessable

LIMITS = range(1, 101)
DEFAULT_LIMIT = 20


async def read_json(request: web.Request) -> Any:
    """The body's value.  Raises a Problem: 400 for what is not JSON, 413 beyond the application's limit.

    The standard library's parser, made strict: numbers that JSON does not have are no JSON.  It keeps whole numbers
    of any size and lone surrogates, which are judged with the rest of the content.
    """
    try:
        return _DECODER.decode(_text_of(await request.read()))
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not JSON.", kind="not_json") from None


def limit_of(request: web.Request) -> int:
    """`limit` of a list: 1-100.  Raises a Problem."""
    text = request.query.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) in LIMITS:
        return int(text)
    raise unprocessable("/limit", f"limit must be a whole number from {LIMITS[0]} to {LIMITS[-1]}.")


def bad_cursor() -> Problem:
    """422 for a cursor that no list has given."""
    return unprocessable("/cursor", "cursor must be the 'next' of the page before.")


def _text_of(body: bytes) -> str:
    """The body as text: UTF-8, or UTF-16 or UTF-32 where its first bytes say so."""
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
