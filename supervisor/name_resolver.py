"""Names of hosts are looked up in threads of their own, each look-up with a time-out.

A look-up can't be interrupted: libc waits for a slow name server for up to half a minute.  In the event loop's common
threads it would hold up whoever stores a picture meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 32
TIME_OUT_SECONDS = 10.0


class NoAnswerInTime(OSError):
    """The name servers have not answered in time; they may later."""


class PooledResolver(AbstractResolver):
    """The system's resolver.  time_out_seconds: of one look-up, its wait for a thread included."""

    def __init__(self, *, time_out_seconds: float = TIME_OUT_SECONDS) -> None:
        self._time_out_seconds = time_out_seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of a host.  Raises OSError: socket.gaierror, or NoAnswerInTime."""
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        asked = asyncio.get_running_loop().run_in_executor(_threads(), look_up)
        try:
            found = await asyncio.wait_for(asked, self._time_out_seconds)
        except TimeoutError:
            raise NoAnswerInTime(f"{host} could not be looked up in {self._time_out_seconds:g} s") from None
        return [
            ResolveResult(
                hostname=host,
                host=_with_scope(address),
                port=int(address[1]),
                family=found_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found_family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held: the threads are the process's."""


def _with_scope(address: tuple[object, ...]) -> str:
    """An address as text; a link-local one of IPv6 with its interface, without which it leads nowhere."""
    is_scoped = len(address) == 4 and address[3]
    return f"{str(address[0]).partition('%')[0]}%{address[3]}" if is_scoped else str(address[0])


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="names")
