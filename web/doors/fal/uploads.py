"""/fal/storage: files as fal's SDKs upload them.

The SDK for JavaScript asks where a file will be, puts it there without a key, and orders with the address that it was
told: both addresses are signed, and the file's id stands in them before there is a file.  The one for Python asks for a
token, then sends the bytes.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from aiohttp import web

from supervisor.core.ids import is_task_id, new_ulid
from supervisor.database.interface.errors import IntegrityError
from supervisor.security.tokens import Identity
from supervisor.store.tasks import images
from web.api.files import A_FILE, keep, most_bytes_of_a_file
from web.api.images import AROUND_BYTES, Incoming, receive, share_of, temporary
from web.handling.context import IDENTITY, Context, context_of, user_of
from web.handling.origin import origin_of
from web.handling.request_bodies import judge_json
from web.handling.responses import json_answer
from web.http.problems import Problem

UPLOAD_PATH = "/fal/storage/upload/{upload_id}"
FILE_PATH = "/fal/storage/files/{upload_id}"
TOKEN_SECONDS = 3600


async def token(request: web.Request) -> web.Response:
    """200 with what the SDK for Python uploads with: the token that it has asked with."""
    await context_of(request).check_token(request)
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    expires = datetime.fromtimestamp(time.time() + TOKEN_SECONDS, UTC)
    return json_answer(
        {
            "token": given,
            "token_type": scheme or "Key",
            "base_url": f"{origin_of(request)}/fal/storage",
            "expires_at": expires.isoformat(timespec="seconds"),
        }
    )


async def send(request: web.Request) -> web.Response:
    """200 with the address of the file whose bytes are the body."""
    file = await _received(request, new_ulid(), request.headers.get("X-Fal-File-Name", ""))
    return json_answer({"access_url": origin_of(request) + context_of(request).links.link(file.key)})


async def initiate(request: web.Request) -> web.Response:
    """200 with the address to which the file is to be put, and the one under which it will be."""
    await judge_json(request, lambda body: body)
    context, user, upload_id = context_of(request), user_of(request), new_ulid()
    await context.check_token(request)
    origin = origin_of(request)
    proof = _proof(context, _put_key(upload_id, user))
    return json_answer(
        {
            "upload_url": f"{origin}/fal/storage/upload/{upload_id}?user={quote(user, safe='')}&{proof}",
            "file_url": f"{origin}/fal/storage/files/{upload_id}?{_proof(context, file_key(upload_id))}",
        }
    )


async def put(request: web.Request) -> web.Response:
    """200 once the file is stored, and when it is there already.  403 for an address that proves nothing."""
    context, upload_id, user = context_of(request), _upload_id(request), request.query.get("user", "")
    if not _holds(request, _put_key(upload_id, user)):
        raise Problem(403, "This address was altered or has expired; ask for another.", kind="bad_link")
    request[IDENTITY] = Identity(user, "user")
    if await context.database.read_async(lambda tx: images.key_of(tx, upload_id)) is None:
        with contextlib.suppress(IntegrityError):  # the same file, put twice at once
            await _received(request, upload_id, "")
    return json_answer({})


async def fetch(request: web.Request) -> web.Response:
    """302 to the file."""
    context, upload_id = context_of(request), _upload_id(request)
    if not _holds(request, file_key(upload_id)):
        raise Problem(403, "This link was altered or has expired.", kind="bad_link")
    key = await context.database.read_async(lambda tx: images.key_of(tx, upload_id))
    if key is None:
        raise Problem(404, "There is no such file.", kind="not_found")
    return web.Response(status=302, headers={"Location": origin_of(request) + context.links.link(key)})


async def _received(request: web.Request, upload_id: str, name: str) -> images.NewImage:
    context = context_of(request)
    most = most_bytes_of_a_file(context)
    if most and (request.content_length or 0) > most + AROUND_BYTES:
        raise Problem(413, f"At most {most:,} bytes are accepted.", kind="too_many_bytes")
    with share_of(request) as share:
        async with temporary(context) as file:
            await receive(request, Incoming(context, file, most, share, A_FILE))
            return await keep(request, file, name, upload_id)


def file_key(upload_id: str) -> str:
    """What the link to a file that may not be there yet is signed for."""
    return f"fal-files/{upload_id}"


def _put_key(upload_id: str, user: str) -> str:
    return f"fal-uploads/{upload_id}/{user}"


def _proof(context: Context, key: str) -> str:
    return urlsplit(context.links.link(key)).query


def _holds(request: web.Request, key: str) -> bool:
    query = request.query
    return context_of(request).links.holds(key, query.get("exp", ""), query.get("sig", ""))


def _upload_id(request: web.Request) -> str:
    upload_id = request.match_info["upload_id"]
    if not is_task_id(upload_id):
        raise Problem(404, "There is no such file.", kind="not_found")
    return upload_id
