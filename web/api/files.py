"""POST /v1/files: receive a file of any kind that types may use, store it unchanged, record its owner.

A picture is handled like in `POST /v1/images`.  Any other file is recognised by its bytes and never decoded here.
"""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO, cast

from aiohttp import web

from supervisor.media.file_kinds import HEAD_BYTES, JSON, TEXT, FileKind, file_kind
from supervisor.media.file_names import plain_name
from supervisor.pictures.media_types import picture_type
from supervisor.pictures.picture_errors import TooManyBytes
from supervisor.store.tasks import images
from web.api.images import (
    AROUND_BYTES,
    Incoming,
    Wanted,
    id_and_key,
    receive,
    share_of,
    store,
    store_picture,
    temporary,
)
from web.handling.context import Context, context_of, user_of
from web.handling.responses import json_answer
from web.http.detached_work import finished_first
from web.http.problems import Problem

NO_FILE = (
    "The bytes are none of what is taken: a picture, MP4, WebM, MOV, MP3, WAV, M4A, OGG, FLAC, GLB, PDF, JSON, text or "
    "ZIP; HTML and SVG never are.  Send a file as it is, or in a form's field 'file'."
)


def _may_be(head: bytes) -> bool:
    return picture_type(head) is not None or file_kind(head[:HEAD_BYTES]) is not None


def _is_surely(head: bytes) -> bool:
    """A form is text too."""
    return _may_be(head) and file_kind(head[:HEAD_BYTES]) not in (JSON, TEXT)


A_FILE = Wanted("file", _may_be, _is_surely, NO_FILE, "not_a_file")


async def upload(request: web.Request) -> web.Response:
    """201 with the file's id.  As `images.upload`, and 413 by the kind's own limit."""
    context = context_of(request)
    most = most_bytes_of_a_file(context)
    if most and (request.content_length or 0) > most + AROUND_BYTES:
        raise TooManyBytes(f"At most {most:,} bytes are accepted.")
    with share_of(request) as share:
        async with temporary(context) as received:
            incoming = Incoming(context, received, most, share, A_FILE)
            await receive(request, incoming)
            file = await keep(request, received, incoming.name)
    body = {
        "id": file.id,
        "url": context.links.link(file.key),
        "media_type": media_type_of(file),
        "bytes": file.bytes,
        "name": file.name or plain_name(incoming.name or file.key),
        **({"width": file.width, "height": file.height} if file.media_type is None else {}),
    }
    return json_answer(body, status=201)


def most_bytes_of_a_file(context: Context) -> int:
    """Of any kind; 0 = no limit."""
    bounds = context.settings.limits.bytes_by_kind
    return 0 if 0 in bounds.values() else max(bounds.values())


async def keep(
    request: web.Request, received: BinaryIO, name: str = "", given_id: str | None = None
) -> images.NewImage:
    """What was received, stored as an upload of the request's user: a picture made plain, all else as it is.

    given_id: its id, where somebody knows it already.

    Raises a Problem, 415, for what is none of what is taken, TooManyBytes, and what `make_plain` and `store` raise.
    """
    context, user = context_of(request), user_of(request)
    bounds = context.settings.limits.bytes_by_kind
    head, size, digest = await context.on_files(_looked_at, received)
    if picture_type(head) is not None:
        _refuse_large(size, bounds["images"])
        async with temporary(context) as made:
            picture = await context.plain_uploads.make_plain(user, received, made)
            return await finished_first(store_picture(request, user, picture, made, given_id))
    kind = file_kind(head, whole=size <= len(head))
    if kind is None:
        raise Problem(415, NO_FILE, kind="not_a_file")
    _refuse_large(size, bounds[kind.kind])
    return await finished_first(store(request, _new(user, kind, size, digest, name, given_id), received))


def media_type_of(file: images.NewImage) -> str:
    """Of a stored upload."""
    return file.media_type or f"image/{file.key.rpartition('.')[2].replace('jpg', 'jpeg')}"


def _new(
    user: str, kind: FileKind, size: int, digest: str, name: str, given_id: str | None
) -> images.NewImage:
    id_, key = id_and_key(kind.extension, given_id)
    return images.NewImage(id_, user, key, 0, 0, size, digest, kind.media_type, plain_name(name or key))


def _looked_at(file: BinaryIO) -> tuple[bytes, int, str]:
    """(first bytes, size, sha256) of a received file; it is left at its start."""
    file.seek(0)
    digest = hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()
    size = file.tell()
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head, size, digest


def _refuse_large(size: int, most: int) -> None:
    if most and size > most:
        raise TooManyBytes(f"At most {most:,} bytes of this kind are accepted.")
