"""Fetch a file from an address that came as data: exactly as written, with limits, and checked again at each redirect.

Public hosts only, unless the caller may enter its own network.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from actors.net.given_addresses import as_given, redirected
from actors.net.public_addresses import NotPublic, PublicResolver, is_private_literal
from actors.providers.base import InvalidInput, Transient
from supervisor.net.http_session import open_session
from supervisor.objects.disk_space import is_full

MOST_REDIRECTS = 3
TOTAL_SECONDS = 60
_CHUNK_BYTES = 65_536


class NotFetched(Exception):
    """str() is a sentence; the address in it has no query, which may hold a signature."""


class Unfetchable(NotFetched):
    """This address may not or can not be fetched, now or later."""


class NotShown(Unfetchable):
    """The server refuses to give us the file."""


class TooLarge(Unfetchable):
    """The file is larger than the limit."""


class NotFetchedNow(NotFetched):
    """The server is in trouble, or can't be reached."""


@dataclass(frozen=True)
class Allowed:
    """The addresses that may be fetched.

    translation_prefixes: see `is_public`.  whose: the user who gave the address, if any.
    """

    schemes: tuple[str, ...] = ("https",)
    private_addresses: bool = False
    translation_prefixes: Sequence[str] = ()
    whose: str | None = None


async def fetch_public_image(
    address: str, *, whose: str, most_bytes: int, translation_prefixes: Sequence[str] = ()
) -> bytes:
    """The body behind an https URL that this user gave, at most `most_bytes` (0 = no limit).

    Raises InvalidInput for an address that may not or can not be fetched, Transient for a server in trouble.
    """
    with _told_as_errors_of_an_order():
        allowed = Allowed(translation_prefixes=translation_prefixes, whose=whose)
        return await fetch(address, most_bytes=most_bytes, allowed=allowed)


async def fetch_public_file(
    path: Path, address: str, *, whose: str, most_bytes: int, translation_prefixes: Sequence[str] = ()
) -> None:
    """The same for any file, written to `path` piece by piece."""
    with _told_as_errors_of_an_order():
        allowed = Allowed(translation_prefixes=translation_prefixes, whose=whose)
        await fetch_to(path, address, most_bytes=most_bytes, allowed=allowed)


@contextlib.contextmanager
def _told_as_errors_of_an_order() -> Iterator[None]:
    try:
        yield
    except TooLarge as error:
        raise InvalidInput(str(error), code="image_unusable") from None
    except Unfetchable as error:
        raise InvalidInput(str(error), code="image_not_found") from None
    except NotFetchedNow as error:
        raise Transient(str(error), code="image_not_found") from None


async def fetch(address: str, *, most_bytes: int, allowed: Allowed) -> bytes:
    """The body behind an address, at most `most_bytes` (0 = no limit).  Raises NotFetched."""
    body = bytearray()

    async def take(pieces: AsyncIterator[bytes]) -> None:
        body.clear()
        async for piece in pieces:
            body.extend(piece)

    timeout = aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=10)
    await _fetched(address, take, timeout, most_bytes, allowed)
    return bytes(body)


async def fetch_to(path: Path, address: str, *, most_bytes: int, allowed: Allowed) -> None:
    """The same, written to a file piece by piece; for as long as the server goes on sending."""

    async def take(pieces: AsyncIterator[bytes]) -> None:
        with path.open("wb") as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=TOTAL_SECONDS)
    await _fetched(address, take, timeout, most_bytes, allowed)


async def _fetched(
    address: str,
    take: Callable[[AsyncIterator[bytes]], Awaitable[None]],
    timeout: aiohttp.ClientTimeout,
    most_bytes: int,
    allowed: Allowed,
) -> None:
    resolver = (
        None
        if allowed.private_addresses
        else PublicResolver(*allowed.translation_prefixes, whose=allowed.whose)
    )
    async with open_session(resolver=resolver, timeout=timeout) as session:
        try:
            at = address
            for _ in range(MOST_REDIRECTS + 1):
                url = _checked(as_given(at), allowed)
                async with session.get(url, allow_redirects=False) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        at = redirected(at, response.headers.get("Location", ""))
                        continue
                    return await take(_body(response, address, most_bytes))
        except NotPublic as error:
            raise Unfetchable(f"{_shown(address)} can't be fetched: {error}.") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, NotPublic):
                raise Unfetchable(f"{_shown(address)} can't be fetched: {error.os_error}.") from None
            raise NotFetchedNow(f"{_shown(address)} can't be reached.") from None
        except ValueError:  # InvalidURL is one
            raise Unfetchable(f"{_shown(address)} is no address that can be fetched.") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and is_full(error):
                raise  # our own disk
            raise NotFetchedNow(f"{_shown(address)} can't be fetched.") from None
    raise Unfetchable(f"{_shown(address)} redirects more than {MOST_REDIRECTS} times.")


async def _body(response: aiohttp.ClientResponse, address: str, most_bytes: int) -> AsyncGenerator[bytes]:
    if response.status >= 500 or response.status == 429:
        raise NotFetchedNow(f"{_shown(address)} answers {response.status}.")
    if response.status != 200:
        raise NotShown(f"{_shown(address)} answers {response.status}.")
    count = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        count += len(chunk)
        if most_bytes and count > most_bytes:
            raise TooLarge(f"{_shown(address)} is larger than {most_bytes} bytes.")
        yield chunk


def _checked(url: URL, allowed: Allowed) -> URL:
    """The URL, if it is allowed."""
    if url.scheme not in allowed.schemes or not url.host:
        raise Unfetchable(f"{_shown(str(url))} is no {' or '.join(allowed.schemes)} address.")
    if not allowed.private_addresses and is_private_literal(url.host, *allowed.translation_prefixes):
        raise Unfetchable(f"{_shown(str(url))} is not a public address.")
    return url


def _shown(address: str) -> str:
    """An address without its query, which may hold a signature."""
    return address.partition("?")[0][:200]
