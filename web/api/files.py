"""POST /v1/files: receive a file of any kind that types may use, store it unchanged, record its owner.

A picture is handled like in `POST /v1/images`.  Any other file is recognised by its bytes and never decoded here.
"""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO, cast

from aiohttp import web

from supervisor.core.ids import new_ulid
from supervisor.media.file_kinds import HEAD_BYTES, JSON, TEXT, FileKind, file_kind
from supervisor.media.file_names import plain_name
from supervisor.pictures.media_types import picture_type
from supervisor.pictures.picture_errors import TooManyBytes
from supervisor.store.tasks import images
from web.api.images import AROUND_BYTES, Incoming, Wanted, receive, share_of, store, store_picture, temporary
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
    context, user = context_of(request), user_of(request)
    bounds = context.settings.limits.bytes_by_kind
    most = 0 if 0 in bounds.values() else max(bounds.values())
    if most and (request.content_length or 0) > most + AROUND_BYTES:
        raise TooManyBytes(f"At most {most:,} bytes are accepted.")
    with share_of(request) as share:
        async with temporary(context) as received, temporary(context) as made:
            incoming = Incoming(context, received, most, share, A_FILE)
            await receive(request, incoming)
            head, size, digest = await context.on_files(_looked_at, received)
            if picture_type(head) is not None:
                _refuse_large(size, bounds["images"])
                picture = await context.plain_uploads.make_plain(user, received, made)
                image = await finished_first(store_picture(request, user, picture, made))
                media_type = f"image/{image.key.rpartition('.')[2].replace('jpg', 'jpeg')}"
                sized = {"width": image.width, "height": image.height}
                return _answer(context, image, media_type, incoming.name, sized)
            kind = file_kind(head, whole=size <= len(head))
            if kind is None:
                raise Problem(415, NO_FILE, kind="not_a_file")
            _refuse_large(size, bounds[kind.kind])
            file = _new(user, kind, size, digest, incoming.name)
            await finished_first(store(request, file, received))
            return _answer(context, file, kind.media_type, incoming.name, {})


def _answer(
    context: Context, file: images.NewImage, media_type: str, name: str, sized: dict[str, int]
) -> web.Response:
    body = {
        "id": file.id,
        "url": context.links.link(file.key),
        "media_type": media_type,
        "bytes": file.bytes,
        "name": file.name or plain_name(name or file.key),
        **sized,
    }
    return json_answer(body, status=201)


def _new(user: str, kind: FileKind, size: int, digest: str, name: str) -> images.NewImage:
    id_ = new_ulid()
    key = f"uploads/{id_[-2:]}/{id_}.{kind.extension}"
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
