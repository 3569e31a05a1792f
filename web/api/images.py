"""POST /v1/images: receive an upload, make it plain, store it, record its owner.

An upload and its plain picture are temporary files without a name, so neither is ever completely in memory, and a
process that dies leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from typing import BinaryIO, cast

from aiohttp import web

from config.settings import is_loopback
from supervisor.core.errors import OutcomeUnknown
from supervisor.core.ids import new_ulid
from supervisor.database.interface.errors import InterfaceError, OperationalError
from supervisor.objects.object_store import PIECE_BYTES, StoreAway
from supervisor.pictures import media_types
from supervisor.pictures.media_types import picture_type
from supervisor.pictures.picture_errors import Picture, TooManyBytes
from supervisor.security.roles import is_bound
from supervisor.store.tasks import images
from web.handling.context import IDENTITY, Context, address_of, context_of, user_of
from web.handling.responses import json_answer
from web.http.body_reader import pieces_of
from web.http.client_address import household
from web.http.detached_work import finished_first
from web.http.forms import HEAD_BYTES, FormLimits, Part, boundary_of, events_of
from web.http.problems import Problem, unavailable, unprocessable
from web.uploads.upload_quota import OF_A_USER, OF_MANY, Holder, Share

# bytes that an upload counts for before its first byte: a connection and its buffers
UPLOAD_BYTES = 64 * 1024
NO_PICTURE = (
    "The bytes are not a picture in JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP; send one as it is, or in a form's field "
    "'image'."
)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The files that an address accepts.  field: of a form.  may_be: whether a file may begin like this; is_surely:
    whether these bytes can't be a form.

    refusal, kind: for other files.
    """

    field: str
    may_be: Callable[[bytes], bool]
    is_surely: Callable[[bytes], bool]
    refusal: str
    kind: str

    @property
    def form(self) -> FormLimits:
        return FormLimits(files=(self.field,), parts=16, bytes_around=AROUND_BYTES)


def _is_picture(head: bytes) -> bool:
    return picture_type(head[: media_types.HEAD_BYTES]) is not None


AROUND_BYTES = 64 * 1024
JUDGED_BYTES = 8192  # a wrong file is refused before the rest arrives
A_PICTURE = Wanted("image", _is_picture, _is_picture, NO_PICTURE, "not_a_picture")


async def upload(request: web.Request) -> web.Response:
    """201 with the image's id.  408 too slow, 413 too large, 415 not a picture, 422 an unusable picture, 429 too many
    uploads of this user or address, 503 too many of all users."""
    context = context_of(request)
    limits = context.settings.limits
    user = user_of(request)
    if limits.image_bytes and (request.content_length or 0) > limits.image_bytes + AROUND_BYTES:
        raise TooManyBytes(f"At most {limits.image_bytes:,} bytes are accepted.")
    with share_of(request) as share:
        async with temporary(context) as received, temporary(context) as made:
            await receive(request, Incoming(context, received, limits.image_bytes, share, A_PICTURE))
            picture = await context.plain_uploads.make_plain(user, received, made)
            image = await finished_first(store_picture(request, user, picture, made))
    return json_answer(
        {
            "id": image.id,
            "url": context.links.link(image.key),
            "width": image.width,
            "height": image.height,
            "bytes": image.bytes,
        },
        status=201,
    )


async def store_picture(
    request: web.Request, user: str, picture: Picture, made: BinaryIO, given_id: str | None = None
) -> images.NewImage:
    """The picture that was made of an upload.  given_id: its id, where somebody knows it already."""
    id_, key = id_and_key(picture.extension, given_id)
    image = images.NewImage(
        id=id_,
        user=user,
        key=key,
        width=picture.width,
        height=picture.height,
        bytes=picture.bytes,
        sha256=picture.sha256,
    )
    return await store(request, image, made)


def id_and_key(extension: str, given_id: str | None = None) -> tuple[str, str]:
    """(id, key) of a new upload.  The key of a given id is a fresh one all the same: no object is ever replaced."""
    id_ = given_id or new_ulid()
    name = id_ if given_id is None else f"{id_}-{new_ulid()}"
    return id_, f"uploads/{id_[-2:]}/{name}.{extension}"


async def store(request: web.Request, image: images.NewImage, made: BinaryIO) -> images.NewImage:
    """Store the object durably first, then the row that names it."""
    context = context_of(request)
    await context.on_files(context.files.put, image.key, made)
    try:
        await context.write(request, lambda tx: images.add(tx, image))
    except (OutcomeUnknown, OperationalError, InterfaceError):
        raise  # the row may exist: so the object is kept, and the sweep deletes it if there is no row
    except Exception:
        with contextlib.suppress(StoreAway, OSError):
            await context.on_files(context.files.delete, image.key)
        raise
    return image


@contextlib.asynccontextmanager
async def temporary(context: Context) -> AsyncIterator[BinaryIO]:
    """A file without a name."""
    folder = str(context.settings.data_dir)
    try:
        file = await context.on_files(lambda: tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
    except OSError as error:
        raise StoreAway(f"No temporary file can be made in {folder}: {error.strerror}") from error
    try:
        yield cast("BinaryIO", file)
    finally:
        file.close()


@contextlib.contextmanager
def share_of(request: web.Request) -> Iterator[Share]:
    share = context_of(request).uploads.begin(_holders(request))
    try:
        yield share
    finally:
        share.end()


def _holders(request: web.Request) -> tuple[Holder, ...]:
    """The holders that this upload counts for: its user, and its address if uploads come from many addresses.

    A service sends its users' uploads from one address, and so do programs on this host.
    """
    identity = request[IDENTITY]
    if not is_bound(identity.role):
        return (Holder(f"user {identity.user}", OF_MANY),)
    address = address_of(request)
    user = Holder(f"user {identity.user}", OF_A_USER)
    if not address or is_loopback(address):
        return (user,)
    return (user, Holder(f"address {household(address)}", OF_MANY))


def hold(share: Share, count: int) -> None:
    """Hold so many bytes more.  Raises a Problem: 429 where the user or the address has too many, 503 for all."""
    full = share.take(count)
    if full is None:
        return
    others = share.shares.uploads_of(full) - 1
    if not others:
        raise unavailable("Too many uploads are being received; try again in a moment.")
    whose = "this user" if full.name.startswith("user ") else "this address"
    raise Problem(
        429,
        f"Other uploads of {whose} ({others}) are under way; send this one again when they are through.",
        kind="too_many_uploads",
        headers={"Retry-After": "5"},
    )


class Incoming:
    """The file into which one upload is received."""

    def __init__(
        self, context: Context, file: BinaryIO, most_bytes: int, share: Share, wanted: Wanted
    ) -> None:
        self._context, self._file, self._most_bytes, self._share = context, file, most_bytes, share
        self._piece = bytearray()
        self._bytes = 0
        self._is_taken, self.wanted, self.name = False, wanted, ""
        hold(self._share, UPLOAD_BYTES)

    async def take(self, piece: bytes) -> None:
        """Receive one more piece.  Raises TooManyBytes, StoreAway, and a Problem: 415 if it can't be a picture."""
        self._bytes += len(piece)
        if self._most_bytes and self._bytes > self._most_bytes:
            raise TooManyBytes(f"At most {self._most_bytes:,} bytes are accepted.")
        hold(self._share, len(piece))
        self._piece += piece
        if len(self._piece) >= media_types.HEAD_BYTES:
            self._judge()
        if len(self._piece) >= PIECE_BYTES:
            await self._write()

    async def end(self) -> None:
        """End the file.  Raises as `take`."""
        self._judge()
        await self._write()

    def _judge(self) -> None:
        """Refuse at once a beginning that can't become a picture."""
        self._is_taken = self._is_taken or self.wanted.may_be(bytes(self._piece[:JUDGED_BYTES]))
        if not self._is_taken:
            raise Problem(415, self.wanted.refusal, kind=self.wanted.kind)

    async def _write(self) -> None:
        piece, self._piece = self._piece, bytearray()
        try:
            await finished_first(self._context.on_files(_write_whole, self._file, piece))
        except OSError as error:
            raise StoreAway(f"An upload can't be written: {error.strerror}") from error


def _write_whole(file: BinaryIO, piece: bytearray) -> None:
    file.write(piece)
    file.flush()  # an image child reads it by its descriptor


async def receive(request: web.Request, incoming: Incoming) -> None:
    """Receive the picture's bytes, from a form's field or from the body itself; the bytes show which it is.

    Raises Revoked and UserBlocked before anything is received.
    """
    await context_of(request).check_token(request)
    async with contextlib.aclosing(pieces_of(request, float("inf"))) as pieces:
        head = await _head_of(pieces)
        body = _chained(head, pieces)
        form, is_surely = incoming.wanted.form, incoming.wanted.is_surely(head)
        content_type = request.headers.get("Content-Type", "")
        boundary = None if is_surely else boundary_of(content_type, head, form)
        if boundary is not None:
            await _receive_form(events_of(body, boundary, form), incoming)
        else:
            async for piece in body:
                await incoming.take(piece)
    await incoming.end()


async def _head_of(pieces: AsyncIterator[bytes]) -> bytes:
    """Enough of a body to recognise it, or all of a short one."""
    head = b""
    while len(head) < HEAD_BYTES:
        piece = await anext(pieces, b"")
        if not piece:
            break
        head += piece
    return head


async def _chained(head: bytes, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    yield head
    async for piece in pieces:
        yield piece


async def _receive_form(events: AsyncGenerator[Part | bytes | None], incoming: Incoming) -> None:
    """Receive the first field with the picture's name; fields before it are read and dropped."""
    is_ours = False
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Part):
                is_ours = event.name == incoming.wanted.field
                incoming.name = event.filename if is_ours else ""
            elif is_ours and event is None:
                return
            elif is_ours and event is not None:
                await incoming.take(event)
    field = incoming.wanted.field
    raise unprocessable(f"/{field}", f"The form has no field '{field}'.")
