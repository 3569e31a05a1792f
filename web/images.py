"""POST /v1/images: take an upload in, make it plain, store it, remember whose it is.

An upload and the plain picture that is made of it are temporary files without a name, so a large one is never whole
in memory and nothing is left behind by a process that dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator, Awaitable
from typing import BinaryIO, TypeVar, cast

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from supervisor.files import PIECE_BYTES
from supervisor.ids import new_ulid
from supervisor.pictures import Picture, TooManyBytes, normalise_picture
from supervisor.store import images
from web.answers import json_answer
from web.parts import Parts, parts_of, user_of
from web.problems import Problem, unavailable, unprocessable

T = TypeVar("T")

FIELD = "image"
MOST_BYTES_HELD = 256 * 1024 * 1024  # of all uploads that are being received, decoded or stored
MOST_BYTES_AROUND = 64 * 1024  # other fields of a form, which are read and dropped
_UNDECLARED = ("application/octet-stream", "")


async def upload(request: web.Request) -> web.Response:
    """201 with the image's id.  413 too large, 415 no picture, 422 a picture that can't be used."""
    parts = parts_of(request)
    limits = parts.settings.limits
    user = user_of(request)
    if limits.image_bytes and (request.content_length or 0) > limits.image_bytes + MOST_BYTES_AROUND:
        raise TooManyBytes(f"At most {limits.image_bytes:,} bytes are accepted.")
    async with _held(parts) as hold:
        with _temporary(parts) as received, _temporary(parts) as made:
            await _receive(request, _Incoming(parts, received, limits.image_bytes, hold))
            loop = asyncio.get_running_loop()
            work = functools.partial(normalise_picture, received, made, most_pixels=limits.image_pixels)
            picture = await _finished(loop.run_in_executor(parts.decoders, work))
            image = await _finished(_store(parts, user, picture, made))
    return json_answer(
        {
            "id": image.id,
            "url": parts.links.link(image.key),
            "width": image.width,
            "height": image.height,
            "bytes": image.bytes,
        },
        status=201,
    )


async def _store(parts: Parts, user: str, picture: Picture, made: BinaryIO) -> images.NewImage:
    """The object first and durable, then the row that names it."""
    id_ = new_ulid()
    image = images.NewImage(
        id=id_,
        user=user,
        key=f"uploads/{id_[-2:]}/{id_}.{picture.extension}",
        width=picture.width,
        height=picture.height,
        bytes=picture.bytes,
        sha256=picture.sha256,
    )
    await parts.on_files(parts.files.put, image.key, made)
    try:
        await parts.database.write_async(lambda tx: images.add(tx, image))
    except BaseException:
        await parts.on_files(parts.files.delete, image.key)
        raise
    return image


async def _finished(work: Awaitable[T]) -> T:
    """What the work returns.  A caller who leaves does not stop it; its files stay open until it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _temporary(parts: Parts) -> BinaryIO:
    """A file without a name, in memory while it is small."""
    folder = str(parts.settings.data_dir)
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(PIECE_BYTES, dir=folder))


class _Hold:
    """Counts the bytes of one upload against all that are held in memory."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._bytes = parts, 0

    def add(self, count: int) -> None:
        if self._parts.upload_bytes_held + count > MOST_BYTES_HELD:
            raise unavailable("Too many uploads are being received; try again in a moment.")
        self._bytes += count
        self._parts.upload_bytes_held += count

    def drop(self) -> None:
        self._parts.upload_bytes_held -= self._bytes


@contextlib.asynccontextmanager
async def _held(parts: Parts) -> AsyncIterator[_Hold]:
    hold = _Hold(parts)
    try:
        yield hold
    finally:
        hold.drop()


class _Incoming:
    """The file into which one upload is received."""

    def __init__(self, parts: Parts, file: BinaryIO, most_bytes: int, hold: _Hold) -> None:
        self._parts, self._file, self._most_bytes, self._hold = parts, file, most_bytes, hold
        self._piece = bytearray()
        self._bytes = 0

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Receive everything.  Raises TooManyBytes."""
        async for chunk in chunks:
            self._hold.add(len(chunk))
            self._bytes += len(chunk)
            if self._most_bytes and self._bytes > self._most_bytes:
                raise TooManyBytes(f"At most {self._most_bytes:,} bytes are accepted.")
            self._piece += chunk
            if len(self._piece) >= PIECE_BYTES:
                await self._write()
        await self._write()

    async def _write(self) -> None:
        piece, self._piece = self._piece, bytearray()
        if self._bytes < PIECE_BYTES:
            self._file.write(piece)  # it stays in memory
        else:
            await self._parts.on_files(self._file.write, piece)


async def _receive(request: web.Request, incoming: _Incoming) -> None:
    """Take the picture's bytes, from a form's field or from the body itself."""
    if request.content_type.startswith("image/"):
        await incoming.take(request.content.iter_chunked(65536))
        return
    if request.content_type != "multipart/form-data":
        raise Problem(
            415, "Send a picture as image/*, or a form with the field 'image'.", kind="not_a_picture"
        )
    try:
        await _receive_form(await request.multipart(), incoming)
    except (
        ValueError,
        AssertionError,
        RuntimeError,
        LookupError,
        HttpProcessingError,
    ):  # whatever the parser makes of a broken form
        raise unprocessable("/image", "The form is broken.") from None


async def _receive_form(form: MultipartReader, incoming: _Incoming) -> None:
    around = 0
    while (part := await form.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise unprocessable("/image", "The form holds another form.")
        if part.name == FIELD:
            declared = part.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if declared not in _UNDECLARED and not declared.startswith("image/"):
                raise Problem(
                    415, f"The field 'image' holds {declared}, not a picture.", kind="not_a_picture"
                )
            await incoming.take(_chunks(part))
            return
        async for chunk in _chunks(part):
            around += len(chunk)
            if around > MOST_BYTES_AROUND:
                raise TooManyBytes(f"Fields other than 'image' hold more than {MOST_BYTES_AROUND:,} bytes.")
    raise unprocessable("/image", "The form has no field 'image'.")


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(65536):
        yield chunk
