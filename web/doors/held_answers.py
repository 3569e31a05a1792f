"""An order that is answered with what it makes: held until its task has ended.

Until HEAD_SECONDS have passed nothing is sent, and an error has its own status.  After that the head is sent and white
space every SPACE_SECONDS, which keeps Node's fetch (300 s) and proxies from giving up.  A task that fails later than
that ends the connection in the middle of the answer: the SDK sends the order again, takes the failed task over, and
raises its error.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from aiohttp import web

from supervisor.core.lifecycle import FINAL
from supervisor.objects.object_store import StoreAway
from web.doors.held_requests import TooLate, View, ended, sent
from web.handling.context import Context
from web.http.problems import Problem

HEAD_SECONDS = 50.0
SPACE_SECONDS = 15.0


async def held_answer(
    request: web.Request,
    context: Context,
    view: View,
    body_of: Callable[[View], AsyncIterator[bytes]],
    error_of: Callable[[View], web.Response],
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """The whole answer, written.  body_of: of a completed task, as JSON; error_of: of one that made nothing.

    Raises Draining, TooLate, and a Problem where a file can't be read.
    """
    view = await ended(context, view, HEAD_SECONDS)
    if view["status"] in FINAL and view["status"] != "completed":
        return await sent(request, error_of(view))
    response = web.StreamResponse(headers={"Cache-Control": "no-store", **headers})
    response.content_type = "application/json"
    body, first = None, [b" "]
    if view["status"] in FINAL:
        body = body_of(view)
        with _faults_of_files():  # of the first file, while there is still a status to be told
            first = [await anext(body), await anext(body, b"")]
    await response.prepare(request)
    for piece in first:
        await response.write(piece)
    while body is None:
        view = await ended(context, view, SPACE_SECONDS)
        if view["status"] == "completed":
            body = body_of(view)
        elif view["status"] in FINAL:
            raise TooLate
        else:
            await response.write(b" ")
    async for piece in body:
        await response.write(piece)
    await response.write_eof()
    return response


def failure_of(view: View) -> Problem:
    """What a task that has made nothing is answered with: 422, which no SDK repeats, since it would be paid again."""
    if view["status"] == "cancelled":
        return Problem(422, "The task was cancelled.", kind="cancelled")
    error = view["error"] or {}
    return Problem(
        422, str(error.get("message", "The task failed.")), kind=str(error.get("code", "internal"))
    )


@contextlib.contextmanager
def _faults_of_files() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Problem(422, "A picture of this task is gone.", kind="not_found") from None
    except ConnectionError:
        raise
    except OSError as error:
        raise StoreAway(str(error)) from error
