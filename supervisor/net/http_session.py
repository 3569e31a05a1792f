"""The only HTTP client: a session that sends each request once, over its own connection.

aiohttp repeats a GET, PUT or DELETE by itself when the connection ends before the answer, even on a connection that was
opened for this request.  But a request with any method may cost money, or use up a one-time code.  aiohttp has no
public switch for that.  It repeats only after two classes of errors, and a middleware, which is public, may raise
another class.  Connections are not kept: an idle one may end just when a request is sent on it, and then it is unknown
whether the request was carried out.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from supervisor.net.name_resolver import PooledResolver


class BrokeOff(aiohttp.ClientConnectionError):
    """The connection ended before the answer came: the request may have been carried out.  The cause says how."""


def open_session(
    *, connections: int = 0, resolver: AbstractResolver | None = None, **options: Any
) -> aiohttp.ClientSession:
    """A session.  connections: at most so many at once, 0 = any number.  resolver: is called for each connection.

    options: of aiohttp.ClientSession.

    Other servers are asked for no encoding but these two: with brotli installed, for our own pages, aiohttp would ask
    for it too.
    """
    options["headers"] = {"Accept-Encoding": "gzip, deflate", **(options.get("headers") or {})}
    connector = aiohttp.TCPConnector(
        limit=connections,
        force_close=True,
        resolver=resolver or PooledResolver(),
        use_dns_cache=resolver is None,
    )
    return aiohttp.ClientSession(connector=connector, middlewares=(_send_once,), trust_env=False, **options)


async def _send_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Sends the request; raises what aiohttp does not repeat."""
    try:
        return await send(request)
    # there was no connection, and aiohttp does not repeat such a request
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokeOff(f"The connection broke off ({type(error).__name__}).") from error
