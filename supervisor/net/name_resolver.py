"""Look-ups of host names, in separate threads and with a time-out.

A look-up can't be interrupted: libc waits up to half a minute for a slow name server.  In the event loop's shared
threads it would delay other work, such as storing a picture.  Names from users have other threads than names from the
settings, and each user may hold only a few of them, until the look-up really ends.  So a user with unreachable name
servers delays neither other users nor the AI services.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import socket
import weakref
from collections.abc import Callable
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from supervisor.core.fair_turns import Turns

THREADS = 32  # for names from the settings, and as many for names from users
THREADS_OF_A_USER = 4
TIME_OUT_SECONDS = 10.0

_LookUp = Callable[[], list[Any]]


class NoAnswerInTime(OSError):
    """The name servers have not answered in time; a later try may succeed."""


class PooledResolver(AbstractResolver):
    """The system's resolver.  time_out_seconds: of one look-up, its wait for a thread included.

    whose: the user who gave the names; None for those of the settings.
    """

    def __init__(self, *, whose: str | None = None, time_out_seconds: float = TIME_OUT_SECONDS) -> None:
        self._whose, self._time_out_seconds = whose, time_out_seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of a host.  Raises OSError: socket.gaierror, or NoAnswerInTime."""
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        asked = _asked(look_up) if self._whose is None else _asked_in_turn(self._whose, look_up)
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
        """Nothing to close: the threads belong to the process."""


def _with_scope(address: tuple[object, ...]) -> str:
    """An address as text; a link-local IPv6 address with its interface, which it needs."""
    is_scoped = len(address) == 4 and address[3]
    return f"{str(address[0]).partition('%')[0]}%{address[3]}" if is_scoped else str(address[0])


async def _asked(look_up: _LookUp, names_of: str = "settings") -> list[Any]:
    return await asyncio.get_running_loop().run_in_executor(_threads(names_of), look_up)


async def _asked_in_turn(whose: str, look_up: _LookUp) -> list[Any]:
    turns = _turns.setdefault(asyncio.get_running_loop(), Turns(THREADS, THREADS_OF_A_USER))
    return await turns.held_through(lambda: _asked(look_up, "users"), whose)


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = weakref.WeakKeyDictionary()


@functools.cache
def _threads(names_of: str) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix=f"names of {names_of}")
