"""The common part of requests that change something: their reason, and a write that outlives its caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from supervisor.database.interface.database import Transaction
from web.handling.context import context_of
from web.http.detached_work import finished
from web.http.problems import unprocessable

T = TypeVar("T")

MOST_REASON_CHARACTERS = 200


def one_line(value: object, name: str, *, fewest: int = 0) -> str:
    """A reason of one line.  Raises a Problem, 422."""
    is_line = isinstance(value, str) and fewest <= len(value.strip()) and len(value) <= MOST_REASON_CHARACTERS
    if not is_line or not str(value).isprintable():
        least = f"{fewest} to " if fewest else "at most "
        raise unprocessable(
            f"/{name}", f"{name} must be one line of {least}{MOST_REASON_CHARACTERS} characters."
        )
    return str(value).strip()


async def write(request: web.Request, step: Callable[[Transaction], T]) -> T:
    """The step's result.  The step is finished even if its caller disconnects."""
    return await finished(context_of(request).write(request, step))
