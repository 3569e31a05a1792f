"""Bodies of orders at a door: JSON that may hold pictures as `data:` URIs, and forms with several files.

What a body holds counts in the upload share of its user from its first byte.  JSON is parsed and judged in the thread
that is kept for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, BinaryIO, TypeVar, cast

from aiohttp import web

from web.api.files import most_bytes_of_a_file
from web.api.images import A_PICTURE, Incoming, Wanted, hold, share_of, temporary
from web.doors.order_members import FormFile
from web.handling.context import Context, context_of, user_of
from web.handling.idempotency_header import hash_of
from web.handling.request_bodies import MOST_JSON_BYTES, SMALL_BYTES, is_json, parse_json
from web.http.body_reader import is_there, pieces_of
from web.http.forms import HEAD_BYTES, FormLimits, Part, boundary_of, events_of
from web.http.problems import Problem, unprocessable

T = TypeVar("T")

WHOLE_PICTURES = 2  # of the largest size that one JSON body may hold
UNBOUNDED_PICTURE_BYTES = 32 * 1024 * 1024
TIMES_IN_MEMORY = 2  # a body is bytes first, then text
LONG_TEXT = 1024  # longer text is hashed before the rest of its body
FORM_PARTS = 64
FORM_BYTES_AROUND = 256 * 1024


def most_json_bytes(context: Context) -> int:
    """Of a body that may hold pictures, each a third longer as text."""
    picture = context.settings.limits.image_bytes or UNBOUNDED_PICTURE_BYTES
    return MOST_JSON_BYTES + WHOLE_PICTURES * (picture * 4 // 3 + 1024)


@contextlib.asynccontextmanager
async def json_order(request: web.Request, judge: Callable[[Any], T]) -> AsyncIterator[T]:
    """What `judge` makes of the body's value; its bytes count as an upload until the block ends.

    Raises what `judge` raises, and a Problem: 413, 415, 429.
    """
    if not is_json(request.headers.get("Content-Type", "")):
        raise Problem(
            415, "The body must be JSON, with Content-Type: application/json.", kind="not_json_type"
        )
    context = context_of(request)
    if is_there(request, SMALL_BYTES):  # the usual order, which holds no share
        yield judge(parse_json(request.content.read_nowait()))
        return
    with share_of(request) as share:
        body = bytearray()
        async for piece in pieces_of(request, most_json_bytes(context)):
            if len(body) + len(piece) > SMALL_BYTES:
                hold(share, TIMES_IN_MEMORY * len(piece))
            body += piece
        yield await _judged(context, user_of(request), bytes(body), judge)


async def _judged(context: Context, user: str, body: bytes, judge: Callable[[Any], T]) -> T:
    if len(body) <= SMALL_BYTES:
        return judge(parse_json(body))
    loop = asyncio.get_running_loop()
    return await context.json_turns.held_through(
        lambda: loop.run_in_executor(context.json_thread, lambda: judge(parse_json(body))), user
    )


def canonical_hash(*parts: Any) -> str:
    """SHA-256 of what an order asks, however it was written down: long text and files by their own hashes."""
    return hash_of(_shortened(list(parts)))


def _shortened(value: Any) -> Any:
    if isinstance(value, FormFile):
        return {"file": value.sha256}
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return {"text": hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()}
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value


@contextlib.asynccontextmanager
async def form_order(
    request: web.Request, files: tuple[str, ...], names: Callable[[str], str], wanted: Wanted = A_PICTURE
) -> AsyncIterator[dict[str, Any]]:
    """The members of a form; a field that comes several times is a list, and so is each file.

    files: names of the fields that are files; wanted: what they may be.  names: of the member that a field stands for.
    Temporary files are there until the block ends.  Raises as `json_order`, and as `Incoming`.
    """
    context = context_of(request)
    limits = FormLimits(files=files, parts=FORM_PARTS, bytes_around=FORM_BYTES_AROUND)
    most = context.settings.limits.image_bytes if wanted is A_PICTURE else most_bytes_of_a_file(context)
    async with contextlib.AsyncExitStack() as opened:

        async def receive() -> tuple[BinaryIO, Incoming]:
            content = await opened.enter_async_context(temporary(context))
            return content, Incoming(context, content, most, share, wanted)

        share = opened.enter_context(share_of(request))
        pieces = await opened.enter_async_context(
            contextlib.aclosing(pieces_of(request, most * FORM_PARTS or float("inf")))
        )
        head = b""
        while len(head) < HEAD_BYTES and (piece := await anext(pieces, b"")):
            head += piece
        boundary = boundary_of(request.headers.get("Content-Type", ""), head, limits)
        if boundary is None:
            raise Problem(415, "The body must be a form: multipart/form-data.", kind="not_a_form")

        async def whole() -> AsyncIterator[bytes]:
            yield head
            async for piece in pieces:
                yield piece

        yield await _members(context, events_of(whole(), boundary, limits), limits, receive, names)


async def _members(
    context: Context,
    events: AsyncIterator[Part | bytes | None],
    limits: FormLimits,
    receive: Callable[[], Awaitable[tuple[BinaryIO, Incoming]]],
    names: Callable[[str], str],
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    part, text, incoming, content = Part(""), bytearray(), None, None
    async for event in events:
        if isinstance(event, Part):
            part, text, incoming = event, bytearray(), None
            if part.name in limits.files:
                content, incoming = await receive()
        elif event is not None:
            if incoming is not None:
                await incoming.take(event)
            else:
                text += event
        elif incoming is not None and content is not None:
            await incoming.end()
            digest = await context.on_files(_digest, content)
            members.setdefault(names(part.name), []).append(FormFile(content, part.filename, digest))
        else:
            _add_text(members, names(part.name), bytes(text))
    return members


def _add_text(members: dict[str, Any], name: str, text: bytes) -> None:
    try:
        value = text.decode()
    except UnicodeDecodeError:
        raise unprocessable(f"/{name[:100]}", "This field is not UTF-8.") from None
    if name in members:
        before = members[name]
        members[name] = [*(before if isinstance(before, list) else [before]), value]
    else:
        members[name] = value


def _digest(content: Any) -> str:
    content.seek(0)
    digest = hashlib.file_digest(cast("io.BufferedReader", content), "sha256").hexdigest()
    content.seek(0)
    return digest
