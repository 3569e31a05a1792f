"""Answers to OpenAI's SDKs: pictures, models, events of a stream, errors.  Sources: docs/sdks.md."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from web.handling.context import Context
from web.http.problems import Problem, told_in_one

PIECE_BYTES = 3 * 128 * 1024  # a multiple of three, so that pieces of base64 join
FORMATS = ("b64_json", "url")


def error_answer(problem: Problem) -> web.Response:
    """The error as the SDKs raise it, with our sentence."""
    headers = dict(problem.headers)
    if problem.status == 409 or problem.kind == "outcome_unknown":
        headers["x-should-retry"] = "false"
    return web.Response(
        status=problem.status,
        body=orjson.dumps(error_body(problem)),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )


def error_body(problem: Problem) -> dict[str, Any]:
    """`{"error": {…}}`."""
    pointer = problem.errors[0][0] if problem.errors else ""
    return {
        "error": {
            "message": told_in_one(problem),
            "type": "invalid_request_error" if problem.status < 500 else "server_error",
            "param": pointer.strip("/").replace("/", ".") or None,
            "code": problem.kind or None,
        }
    }


def model_shown(name: str) -> dict[str, Any]:
    """A model of the list."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "darkroom"}


async def pictures(
    context: Context, view: Mapping[str, Any], origin: str, formats: tuple[str, ...]
) -> AsyncIterator[bytes]:
    """The body of a finished task, in pieces: files are read as they are sent.  Raises StoreAway, FileNotFoundError."""
    yield b'{"created":%d,"data":[' % created(view)
    for n, image in enumerate((view["result"] or {}).get("images") or []):
        yield b"," if n else b""
        async for piece in picture(context, image, origin, formats):
            yield piece
    files = ((view["result"] or {}).get("outputs") or {}).get("files", [])
    if files:
        yield b'],"files":' + orjson.dumps(
            [{"url": origin + context.links.link(each["key"])} for each in files]
        )
        yield b"}"
    else:
        yield b"]}"


async def picture(
    context: Context, image: Mapping[str, Any], origin: str, formats: tuple[str, ...], **more: Any
) -> AsyncIterator[bytes]:
    """One picture as an object of JSON, in pieces.  more: members that come first."""
    members = dict(more)
    if "url" in formats:
        members["url"] = origin + context.links.link(image["key"])
    head = orjson.dumps(members)[:-1]
    if "b64_json" not in formats:
        yield head + b"}"
        return
    yield head + (b"," if members else b"") + b'"b64_json":"'
    async for piece in _read(context, image["key"]):
        yield base64.b64encode(piece)
    yield b'"}'


async def _read(context: Context, key: str) -> AsyncIterator[bytes]:
    opened = await context.on_files(context.files.open, key)
    try:
        while piece := await context.on_files(_piece, opened):
            yield piece
    finally:
        opened.close()


def _piece(opened: Any) -> bytes:
    """The next PIECE_BYTES of the file; fewer only at its end, although one read may return fewer."""
    pieces: list[bytes] = []
    wanted = PIECE_BYTES
    while wanted and (piece := opened.read(wanted)):
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


def created(view: Mapping[str, Any]) -> int:
    """Seconds since 1970."""
    return int(datetime.fromisoformat(view["created_at"]).timestamp())
