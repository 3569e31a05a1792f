"""The one way to an HTTP client: a session that sends each request once, over a connection of its own.

aiohttp sends a GET, PUT or DELETE a second time by itself when the connection ends before the answer, even on a
connection that was opened for this request.  A request may cost money, or use up a code that is good once, whatever
its method.  aiohttp has no public switch for that.  But it repeats after two classes of errors alone, and a middleware,
which is public, may raise another class.  No connection is kept: an idle one may end at the moment a request goes out
on it, and nobody could say then whether the request was carried out.
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
    """A session.  connections: at most so many at once, 0 = any number.  resolver: is asked each time anew.

    options: of aiohttp.ClientSession.
    """
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
    except aiohttp.ClientConnectorError:  # it never had a connection, and aiohttp does not repeat it
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokeOff(f"The connection broke off ({type(error).__name__}).") from error
