"""Fetch a picture from an address that a user gave: https, public hosts, bounded, checked again at each redirect."""

from __future__ import annotations

import aiohttp
from yarl import URL

from actors.providers.base import InvalidInput, Transient
from actors.public_addresses import NotPublic, PublicResolver, is_public

MOST_REDIRECTS = 3
TOTAL_SECONDS = 60
_CHUNK_BYTES = 65_536


async def fetch_public_image(address: str, *, most_bytes: int) -> bytes:
    """The body behind an https URL, at most `most_bytes` (0 = no limit).

    Raises InvalidInput for an address that may not or can not be fetched, Transient for a server in trouble.
    """
    connector = aiohttp.TCPConnector(resolver=PublicResolver(), use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        url = _checked(address)
        try:
            for _ in range(MOST_REDIRECTS + 1):
                async with session.get(url, allow_redirects=False) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = _checked(str(url.join(URL(response.headers.get("Location", "")))))
                        continue
                    return await _body(response, address, most_bytes)
        except NotPublic as error:
            raise InvalidInput(
                f"{_shown(address)} can't be fetched: {error}.", code="image_not_found"
            ) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, NotPublic):
                raise InvalidInput(
                    f"{_shown(address)} can't be fetched: {error.os_error}.", code="image_not_found"
                ) from None
            raise Transient(f"{_shown(address)} can't be reached.", code="image_not_found") from None
        except (aiohttp.ClientError, TimeoutError):
            raise Transient(f"{_shown(address)} can't be fetched.", code="image_not_found") from None
    raise InvalidInput(
        f"{_shown(address)} redirects more than {MOST_REDIRECTS} times.", code="image_not_found"
    )


async def _body(response: aiohttp.ClientResponse, address: str, most_bytes: int) -> bytes:
    if response.status >= 500 or response.status == 429:
        raise Transient(f"{_shown(address)} answers {response.status}.", code="image_not_found")
    if response.status != 200:
        raise InvalidInput(f"{_shown(address)} answers {response.status}.", code="image_not_found")
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if most_bytes and len(body) > most_bytes:
            raise InvalidInput(f"{_shown(address)} is larger than {most_bytes} bytes.", code="image_unusable")
    return bytes(body)


def _checked(address: str) -> URL:
    """A URL that may be asked.  An address written as digits meets no resolver, so it is checked here."""
    url = URL(address)
    if url.scheme != "https" or not url.host:
        raise InvalidInput(f"{_shown(address)} is no https address.", code="image_not_found")
    literal = url.host.strip("[]")
    if (literal.replace(".", "").isdigit() or ":" in literal) and not is_public(literal):
        raise InvalidInput(f"{_shown(address)} is not a public address.", code="image_not_found")
    return url


def _shown(address: str) -> str:
    """An address without its query, which may hold a signature."""
    return address.partition("?")[0][:200]
