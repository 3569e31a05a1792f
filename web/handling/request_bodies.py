"""Input: JSON bodies, and the common query parameters of lists."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from aiohttp import web

from supervisor.selection.unescaped_plus import advice_on_unescaped_plus
from web.handling.context import IDENTITY, address_of, context_of
from web.http.body_reader import read_body
from web.http.client_address import household
from web.http.json_shape import shape_fault
from web.http.problems import Problem, unprocessable

T = TypeVar("T")

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
LIMITS = range(1, 101)
DEFAULT_LIMIT = 20
MOST_JSON_BYTES = 1024 * 1024
SMALL_BYTES = 4096  # checked at once: a thread would cost more


async def read_json(request: web.Request, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """The body's value.  Raises as `judge_json`."""
    return await judge_json(request, lambda value: value, most_bytes)


async def judge_json(request: web.Request, judge: Callable[[Any], T], most_bytes: int = MOST_JSON_BYTES) -> T:
    """The result of `judge` for the body's value.  A larger body is parsed and checked in a thread, one at a time, with
    turns for each user, so that it never blocks the event loop.

    Raises the exceptions of `judge`, `parse_json` and `read_body`; 415 if the body is not declared as JSON.  A form of
    a foreign page can't declare that without a preflight.
    """
    if request.can_read_body and not is_json(request.headers.get("Content-Type", "")):
        raise Problem(
            415, "The body must be JSON, with Content-Type: application/json.", kind="not_json_type"
        )
    body = await read_body(request, most_bytes)
    if len(body) <= SMALL_BYTES:
        return judge(parse_json(body))
    context = context_of(request)
    whose = request[IDENTITY].user if IDENTITY in request else household(address_of(request))
    loop = asyncio.get_running_loop()
    return await context.json_turns.held_through(
        lambda: loop.run_in_executor(context.json_thread, lambda: judge(parse_json(body))), whose
    )


def parse_json(body: bytes) -> Any:
    """The value of a body.  Raises a Problem: 400 if it is not JSON, 422 if it holds too much.

    The standard library's parser, made strict: numbers that JSON does not have are refused.  It keeps whole numbers of
    any size and lone surrogates, which are checked with the rest of the content.
    """
    try:
        text = _text_of(body)
        fault = shape_fault(text)
        if fault is None:
            return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not JSON.", kind="not_json") from None
    raise unprocessable("", fault)


def members_of(body: Any, names: Collection[str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """(the members of a JSON object, the faults so far as (pointer, sentence)): only these names may be there."""
    if not isinstance(body, dict):
        return {}, [("", "This must be a JSON object.")]
    return body, [(f"/{name[:100]!s}", "There is no such member.") for name in body if name not in names]


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is `application/json`, or ends in `+json` (RFC 6839)."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def limit_of(request: web.Request) -> int:
    """`limit` of a list: 1-100.  Raises a Problem."""
    text = request.query.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) in LIMITS:
        return int(text)
    raise unprocessable("/limit", f"limit must be a whole number from {LIMITS[0]} to {LIMITS[-1]}.")


def text_of(request: web.Request, name: str) -> str | None:
    """A query parameter that the database compares.  Raises a Problem for text that a database can't hold."""
    text = request.query.get(name)
    if text is not None and not is_storable(text):
        raise unprocessable(f"/{name}", f"{name} must hold no NUL and no lone surrogate.")
    return text


def time_of(request: web.Request, name: str) -> str | None:
    """A query parameter that is a time, as the database has times.  Raises a Problem."""
    text = request.query.get(name)
    try:
        return None if text is None else utc_time(text)
    except ValueError as error:
        raise unprocessable(f"/{name}", f"{name}: {error}{advice_on_unescaped_plus(text or '')}") from None


def utc_time(text: str) -> str:
    """RFC 3339 with an offset as UTC with milliseconds.  Raises ValueError with a sentence."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("A time is RFC 3339 with its offset, such as 2027-01-31T09:00:00.000Z.")
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("There is no such time.") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_storable(text: str) -> bool:
    """Whether a database can hold the text."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def bad_cursor() -> Problem:
    """422 for a cursor that is not from a list."""
    return unprocessable("/cursor", "cursor must be the 'next' of the page before.")


def _text_of(body: bytes) -> str:
    """The body as text: UTF-8, or UTF-16 or UTF-32 by its first bytes."""
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
