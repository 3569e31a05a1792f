"""POST /v1/images: take an upload in, make it plain, store it, remember whose it is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from supervisor.ids import new_ulid
from supervisor.pictures import Picture, TooManyBytes, normalise_picture
from supervisor.store import images
from web.answers import json_answer
from web.parts import Parts, parts_of, user_of
from web.problems import Problem, unavailable, unprocessable

FIELD = "image"
MOST_BYTES_HELD = 256 * 1024 * 1024  # of all uploads that are being received or decoded
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
        data = await _received(request, limits.image_bytes, hold)
        loop = asyncio.get_running_loop()
        work = functools.partial(
            normalise_picture, data, most_bytes=limits.image_bytes, most_pixels=limits.image_pixels
        )
        picture = await loop.run_in_executor(parts.decoders, work)
    image = await asyncio.shield(_store(parts, user, picture))
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


async def _store(parts: Parts, user: str, picture: Picture) -> images.NewImage:
    """The object first and durable, then the row that names it."""
    id_ = new_ulid()
    image = images.NewImage(
        id=id_,
        user=user,
        key=f"uploads/{id_[-2:]}/{id_}.{picture.extension}",
        width=picture.width,
        height=picture.height,
        bytes=len(picture.data),
        sha256=picture.sha256,
    )
    await asyncio.to_thread(parts.files.put, image.key, picture.data)
    try:
        await parts.database.write_async(lambda tx: images.add(tx, image))
    except BaseException:
        await asyncio.to_thread(parts.files.delete, image.key)
        raise
    return image


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


async def _received(request: web.Request, most_bytes: int, hold: _Hold) -> bytes:
    """The picture's bytes, from a form's field or from the body itself."""
    if request.content_type.startswith("image/"):
        return await _read(request.content.iter_chunked(65536), most_bytes, hold)
    if request.content_type != "multipart/form-data":
        raise Problem(
            415, "Send a picture as image/*, or a form with the field 'image'.", kind="not_a_picture"
        )
    try:
        return await _read_form(await request.multipart(), most_bytes, hold)
    except (
        ValueError,
        AssertionError,
        RuntimeError,
        LookupError,
        HttpProcessingError,
    ):  # whatever the parser makes of a broken form
        raise unprocessable("/image", "The form is broken.") from None


async def _read_form(form: MultipartReader, most_bytes: int, hold: _Hold) -> bytes:
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
            return await _read(_chunks(part), most_bytes, hold)
        async for chunk in _chunks(part):
            around += len(chunk)
            if around > MOST_BYTES_AROUND:
                raise TooManyBytes(f"Fields other than 'image' hold more than {MOST_BYTES_AROUND:,} bytes.")
    raise unprocessable("/image", "The form has no field 'image'.")


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(65536):
        yield chunk


async def _read(chunks: AsyncIterator[bytes], most_bytes: int, hold: _Hold) -> bytes:
    data = bytearray()
    async for chunk in chunks:
        hold.add(len(chunk))
        data += chunk
        if most_bytes and len(data) > most_bytes:
            raise TooManyBytes(f"At most {most_bytes:,} bytes are accepted.")
    return bytes(data)
