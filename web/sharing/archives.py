"""All finished pictures and files of a user, or those of a search, as one ZIP file.

A phone can't fetch a hundred files, nor hold them in a page's memory, so the server joins them while it sends: a
download that the browser writes to its disk.  A download can set no header; it is asked for by a short-lived token in
its address.  The file store is read in its threads, one piece at a time, and only as fast as the reader takes it.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any, NamedTuple

from aiohttp import web

from supervisor.core.lifecycle import Status
from supervisor.objects.object_store import PIECE_BYTES, StoreAway
from supervisor.security.tokens import (
    ARCHIVE_SECONDS,
    BadToken,
    Identity,
    make_archive_token,
    read_archive_token,
)
from supervisor.store.feed import works
from web.api.stored_files import STALLED_SECONDS
from web.handling.context import IDENTITY, Context, context_of, user_of
from web.handling.request_bodies import is_storable, judge_json, members_of, utc_time
from web.handling.responses import json_answer
from web.http.problems import Problem
from web.limits.rate_limits import count_request
from web.sharing.zip_stream import ZipStream

log = logging.getLogger("darkroom.web")

ARCHIVE_PATH = "/archives/{token}"
MOST_WORKS = 1000  # the newest
AT_ONCE_OF_A_USER = 2
_WORKS_AT_ONCE = 50
_TIMES = ("created_from", "created_before")

UNDER_WAY = web.AppKey("UNDER_WAY", collections.Counter[str])  # {user: archives that are being sent to them}


class Part(NamedTuple):
    """A member of the file: an object of the store, or data that stands in the row."""

    name: str
    made_at: datetime
    key: str = ""
    data: bytes = b""


async def prepare(request: web.Request) -> web.Response:
    """201 with the link, and how many works are in the file; 404 where none is found, 422."""
    context, identity = context_of(request), request[IDENTITY]
    wanted = await judge_json(request, _wanted)
    user = user_of(request)
    found = await context.read(request, lambda tx: works.count(tx, user, _search(wanted), MOST_WORKS))
    if not found:
        raise Problem(404, "There is no finished work to be saved.", kind="not_found")
    token = make_archive_token(context.secret, user, wanted, asked_by=identity.proofs)
    path = ARCHIVE_PATH.format(token=token)
    return json_answer({"url": path, "works": found, "expires_in": ARCHIVE_SECONDS}, status=201)


async def send(request: web.Request) -> web.StreamResponse:
    """200 with the ZIP file.  403 for a wrong or expired link, 429 beyond what a user may fetch at once."""
    context, under_way = context_of(request), request.app[UNDER_WAY]
    try:
        leave = read_archive_token(context.secret, request.match_info["token"], before=context.secret_before)
    except BadToken:
        raise Problem(
            403, "This link was altered or has expired; ask for the file again.", kind="bad_link"
        ) from None
    request[IDENTITY] = Identity(leave.user, "user", proofs=leave.proofs)
    await count_request(request, f"user:{leave.user}")
    await context.check_token(request)
    if under_way[leave.user] >= AT_ONCE_OF_A_USER:
        raise Problem(
            429,
            f"At most {AT_ONCE_OF_A_USER} of these files are sent to a user at once.",
            kind="too_many_requests",
            headers={"Retry-After": "30"},
        )
    under_way[leave.user] += 1
    try:
        return await _sent(request, context, _search(leave.search))
    finally:
        under_way[leave.user] -= 1
        if not under_way[leave.user]:
            del under_way[leave.user]


async def _sent(request: web.Request, context: Context, search: works.Search) -> web.StreamResponse:
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": 'attachment; filename="darkroom.zip"',
        "Cache-Control": "no-store",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    stream = ZipStream()
    try:
        async for part in _parts(request, context, search):
            async for piece in _member(context, stream, part):
                async with asyncio.timeout(STALLED_SECONDS):
                    await response.write(piece)
        await response.write(await context.on_files(stream.end))
    except (StoreAway, OSError, TimeoutError) as error:
        # The status was sent already; a file without its end shows the reader that it is incomplete.
        log.warning("a file of all pictures broke off: %s", str(error) or "its reader took nothing")
        if request.transport is not None:
            request.transport.abort()
    return response


async def _member(context: Context, stream: ZipStream, part: Part) -> AsyncIterator[bytes]:
    """The bytes of one member; none of a file that was deleted meanwhile."""
    try:
        content: Any = await context.on_files(context.files.open, part.key) if part.key else _Data(part.data)
    except FileNotFoundError:
        return
    try:
        pieces = stream.member(part.name, part.made_at, content, PIECE_BYTES)
        while (piece := await context.on_files(_next_of, pieces)) is not None:
            yield piece
    finally:
        content.close()


async def _parts(request: web.Request, context: Context, search: works.Search) -> AsyncIterator[Part]:
    """Of every work that the search finds, the newest first; read a few works at a time."""
    user, cursor = request[IDENTITY].user, None
    for _ in range(MOST_WORKS // _WORKS_AT_ONCE):
        read = functools.partial(works.page, user=user, search=search, limit=_WORKS_AT_ONCE, cursor=cursor)
        page = await context.read(request, read)
        for doc in page.items:
            for part in parts_of(doc):
                yield part
        cursor = page.next
        if cursor is None:
            return


def parts_of(doc: Mapping[str, Any]) -> Iterator[Part]:
    """What a work has made: its pictures as they are, its files and its data.  No two works share a name."""
    made_at = datetime.fromisoformat(doc["created_at"])
    stem = f"{made_at:%Y-%m-%d-%H%M%S}-{doc['type']}-{doc['_id'][-6:].lower()}"
    for n, image in enumerate(doc["images"], 1):
        yield Part(f"{stem}-{n}.{image['key'].rpartition('.')[2]}", made_at, key=image["key"])
    outputs = doc.get("outputs") or {}
    for n, file in enumerate(outputs.get("files", []), 1):
        yield Part(f"{stem}-{n}-{file['name']}", made_at, key=file["key"])
    if outputs.get("data_key"):
        yield Part(f"{stem}.json", made_at, key=outputs["data_key"])
    elif outputs.get("data") is not None:
        yield Part(f"{stem}.json", made_at, data=json.dumps(outputs["data"], ensure_ascii=False).encode())


class _Data(BytesIO):
    """Data in memory, with its size."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)


def _next_of(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _search(wanted: Mapping[str, str]) -> works.Search:
    return works.Search(
        type=wanted.get("type"), status=Status.COMPLETED, **{name: wanted.get(name) for name in _TIMES}
    )


def _wanted(body: Any) -> dict[str, str]:
    """The members of a search.  Raises a Problem, 422."""
    given, wrong = members_of(body, ("type", *_TIMES))
    found: dict[str, str] = {}
    for name, value in given.items():
        if name not in ("type", *_TIMES):
            continue
        if not isinstance(value, str) or not is_storable(value) or len(value) > 100:
            wrong.append((f"/{name}", "This must be a text of at most 100 characters."))
            continue
        try:
            found[name] = value if name == "type" else utc_time(value)
        except ValueError as error:
            wrong.append((f"/{name}", str(error)))
    if wrong:
        raise Problem(422, "The file can't be made.", kind="bad_params", errors=wrong)
    return found
