"""Inputs of an order as an SDK names them: an https address, an upload's id, a `data:` URI, a link of our own, a file.

A `data:` URI or a file of a form becomes an upload of the order's user.  A link of our own proves itself by its
signature; it is looked up here and never requested, so it meets no guard against addresses of our own network.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from aiohttp import web

from supervisor.core.task_params import INPUT_KINDS
from supervisor.objects.object_store import PIECE_BYTES, is_key
from supervisor.pictures.picture_errors import TooManyBytes
from web.api.files import keep, most_bytes_of_a_file
from web.api.images import temporary
from web.doors.order_members import FormFile
from web.handling.context import Context, context_of
from web.http.problems import Problem, unprocessable

PLACEHOLDER = "upload"  # in the place of what becomes an upload, as long as the rest is being checked
_UPLOAD = re.compile(r"uploads/[^/]{1,8}/([A-Za-z0-9_]{1,64})(?:-[A-Za-z0-9]{1,32})?\.[a-z0-9]{1,8}")
FAL_FILES = "/fal/storage/files/"  # of files whose links were given before there was a file
_OURS = ("/files/", FAL_FILES)
_DATA = re.compile(r"data:[^,]{0,200},")
_B64_PIECE = 4 * 256 * 1024


def becomes_an_upload(entry: Any) -> bool:
    """Whether this is to be stored, or looked up, before a task can name it."""
    return isinstance(entry, FormFile) or entry.startswith("data:") or _own_path(entry) is not None


def with_placeholders(params: dict[str, Any]) -> dict[str, Any]:
    """The params as far as they can be checked before anything is stored."""
    return {
        name: [PLACEHOLDER if becomes_an_upload(entry) else entry for entry in value]
        if name in INPUT_KINDS
        else value
        for name, value in params.items()
    }


async def with_uploads(request: web.Request, params: dict[str, Any]) -> dict[str, Any]:
    """The params with the ids of uploads in the places of all that becomes one.

    Raises a Problem: 403 for a link that was altered or has expired, 422 for a broken `data:` URI; as `keep`.
    """
    found = dict(params)
    for kind in INPUT_KINDS:
        if kind in found:
            found[kind] = [
                await _upload_of(request, kind, entry) if becomes_an_upload(entry) else entry
                for entry in found[kind]
            ]
    return found


async def _upload_of(request: web.Request, kind: str, entry: str | FormFile) -> str:
    context = context_of(request)
    if isinstance(entry, FormFile):
        return (await keep(request, entry.content, entry.name)).id
    path = _own_path(entry)
    if path is not None:
        key = _key_of(context, kind, entry, path)
        if key.startswith("fal-files/"):
            return key.removeprefix("fal-files/")
        upload = _UPLOAD.fullmatch(key)
        if upload is not None:
            return upload[1]
    async with temporary(context) as file:
        most = most_bytes_of_a_file(context)
        try:
            if path is None:
                await context.on_files(_unpack, entry, file, most)
            else:
                await context.on_files(_copy, context, key, file, most)
        except (ValueError, binascii.Error):
            raise unprocessable(f"/{kind}", "This data: URI is broken.") from None
        except FileNotFoundError:
            raise unprocessable(f"/{kind}", "The file of this link is gone.") from None
        return (await keep(request, file)).id


def _own_path(entry: str) -> str | None:
    """The path of what looks like a link of ours, whatever its host: its signature says whether it is."""
    if not entry.startswith(("http://", "https://", *_OURS)):
        return None
    try:
        split = urlsplit(entry)
    except ValueError:
        return None
    query = parse_qs(split.query)
    return split.path if split.path.startswith(_OURS) and {"exp", "sig"} <= query.keys() else None


def _key_of(context: Context, kind: str, entry: str, path: str) -> str:
    query = parse_qs(urlsplit(entry).query)
    key = (
        f"fal-files/{path.removeprefix(FAL_FILES)}"
        if path.startswith(FAL_FILES)
        else path.removeprefix("/files/")
    )
    if not is_key(key) or not context.links.holds(key, query["exp"][0], query["sig"][0]):
        raise Problem(
            422,
            "This link was altered or has expired.",
            kind="bad_link",
            errors=[(f"/{kind}", "This link was altered or has expired.")],
        )
    return key


def _unpack(uri: str, file: BinaryIO, most_bytes: int) -> None:
    """Write what a `data:` URI holds.  Raises ValueError, TooManyBytes."""
    head = _DATA.match(uri)
    if head is None:
        raise ValueError(uri[:20])
    at = head.end()
    if not head[0].rstrip(",").endswith(";base64"):
        file.write(unquote_to_bytes(uri[at:]))
    else:
        while at < len(uri):
            file.write(base64.b64decode(uri[at : at + _B64_PIECE].encode("ascii"), validate=True))
            at += _B64_PIECE
            _refuse_more(file.tell(), most_bytes)
    _refuse_more(file.tell(), most_bytes)
    file.flush()


def _copy(context: Context, key: str, file: BinaryIO, most_bytes: int) -> None:
    opened = context.files.open(key)
    try:
        _refuse_more(opened.size, most_bytes)
        while piece := opened.read(PIECE_BYTES):
            file.write(piece)
    finally:
        opened.close()
    file.flush()


def _refuse_more(size: int, most: int) -> None:
    if most and size > most:
        raise TooManyBytes(f"At most {most:,} bytes are accepted.")
