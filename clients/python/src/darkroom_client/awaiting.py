"""`AsyncDarkroom`: the client for asyncio and trio."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx
from typing_extensions import Self, Unpack

from darkroom_client import effects, models, operations, watching
from darkroom_client.effects import Answer, Broken, Effect, Flow
from darkroom_client.inputs import Source
from darkroom_client.models import Event, Order, OutputFile, Picture, Task, Upload, Work
from darkroom_client.operations import Members, TaskLike
from darkroom_client.repeating import Setup
from darkroom_client.sending import LIMITS, answer_of, arguments, base_of, why_of
from darkroom_client.watching import OUTAGE_SECONDS

T = TypeVar("T")
Token = str | Callable[[], str | Awaitable[str]] | None


class AsyncDarkroom:
    """Orders at a Darkroom, as the user of its token.

    url: the server's address.  token: a token, or a function, async or not, that returns one; it is called once, and
    again when the token is refused, such as after its time.  user: for a token of role `service`, the user it acts for.
    timeout_seconds: for a connection, and for the longest silence in an answer.  patience_seconds: for how long a
    request is repeated while nobody answers, or while the server asks to come again.  http: an `httpx.AsyncClient` of
    your own, which stays yours to close.
    """

    def __init__(
        self,
        url: str,
        token: Token = None,
        *,
        user: str | None = None,
        timeout_seconds: float = 30.0,
        patience_seconds: float = 60.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._setup = Setup(base_of(url), user, patience_seconds)
        self._timeout_seconds = timeout_seconds
        self._http = http or httpx.AsyncClient(limits=LIMITS)
        self._is_ours = http is None
        self._tokens = _Tokens(token)

    def as_user(self, user: str) -> AsyncDarkroom:
        """The same for another user, over the same connections; it needs no closing."""
        other = AsyncDarkroom(self._setup.base, timeout_seconds=self._timeout_seconds, http=self._http)
        other._setup, other._tokens = replace(self._setup, user=user), self._tokens
        return other

    async def aclose(self) -> None:
        """Close the connections."""
        if self._is_ours:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- orders ---

    async def upload(self, source: Source, *, name: str | None = None) -> Upload:
        """Store a picture, film, sound or other file as an input."""
        return await self._run(operations.upload(self._setup, source, name=name))

    async def order(self, type: str, *, key: str | None = None, **members: Unpack[Members]) -> Order:
        """Hand in an order: returns when it is stored and paid.

        key: an `Idempotency-Key` of your own, such as the number of the order in your shop: the same order with it
        within 24 hours is this task, another one is refused.  What is uploaded anew makes another order: keep the id of
        `upload`.  Raises InsufficientCredits, BadInput, LimitReached, Unavailable.
        """
        return await self._run(operations.order(self._setup, type, members, key))

    async def estimate(self, type: str, **members: Unpack[Members]) -> models.Estimate:
        """What an order would cost, and when it would start.  Local inputs are uploaded."""
        return await self._run(operations.estimate(self._setup, type, members))

    async def run(
        self,
        type: str,
        *,
        key: str | None = None,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Work], None] | None = None,
        **members: Unpack[Members],
    ) -> Task:
        """Order, and wait for the result.  Raises as `order` and `wait`."""
        return await self.wait(await self.order(type, key=key, **members), timeout_seconds, on_progress)

    async def wait(
        self,
        task: TaskLike,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Work], None] | None = None,
    ) -> Task:
        """The task once it is completed.  on_progress: called with each state on the way.

        Raises TaskFailed, TaskCancelled, and StillRunning when the time is over; the task goes on then.
        """
        return await self._run(operations.result(self._setup, task, timeout_seconds), on_progress)

    async def cancel(self, task: TaskLike, *, key: str | None = None) -> Task:
        """Cancel an open task; its credits come back.  Raises Conflict if it has finished."""
        return await self._run(operations.cancel(self._setup, task, key))

    async def retry(self, task: TaskLike, *, key: str | None = None) -> Task:
        """Run a failed or cancelled task again; it is paid again.  Raises Conflict, InsufficientCredits."""
        return await self._run(operations.retry(self._setup, task, key))

    # --- looking ---

    def watch(
        self, since: str | None = None, *, outage_seconds: float | None = OUTAGE_SECONDS
    ) -> AsyncIterator[Event]:
        """Every change of the user's works as it is committed, in order, none missing, none twice.

        since: `place` of the last event that you have dealt with; None begins with the newest 100 works.
        outage_seconds: how long the server may be away; None means for ever.  Raises ConnectionFailed after that.
        """
        return self._each(watching.watched(self._setup, since, outage_seconds))

    def watch_task(self, task: TaskLike, timeout_seconds: float | None = None) -> AsyncIterator[Work]:
        """Each state of one task until it has ended.  Raises StillRunning when the time is over."""
        return self._each(watching.followed(self._setup, operations.id_of(task), timeout_seconds))

    async def task(self, task: TaskLike) -> Task:
        """The task as it is now.  Raises NotFound."""
        return await self._run(operations.task(self._setup, task))

    def tasks(self, *, status: models.Status | None = None, type: str | None = None) -> AsyncIterator[Task]:
        """All tasks, newest first."""
        return self._each(operations.tasks(self._setup, status, type))

    def works(self) -> AsyncIterator[Work]:
        """All works, newest first."""
        return self._each(operations.works(self._setup))

    async def work(self, work_id: str) -> Work:
        """The work as it is now.  Raises NotFound."""
        return await self._run(operations.work(self._setup, work_id))

    async def delete_work(self, work_id: str) -> None:
        """Delete a work and its files; an open task is cancelled first."""
        await self._run(operations.delete_work(self._setup, work_id))

    async def types(self) -> list[dict[str, Any]]:
        """What may be ordered: inputs, parameters as JSON Schema, and price of each type."""
        return await self._run(operations.types(self._setup))

    # --- results ---

    async def fetch(self, result: Picture | OutputFile | str) -> bytes:
        """The bytes of a finished file, or of any link of Darkroom's."""
        return await self._run(operations.fetch(self._setup, result))

    async def download(self, task: TaskLike, folder: str | os.PathLike[str]) -> list[Path]:
        """Save all files of a completed task in a folder."""
        return await self._run(operations.download(self._setup, task, folder))

    # --- credits, tokens ---

    async def credits(self, user: str | None = None) -> models.Credits:
        """The balance and the newest entries.  user: for services, of this user."""
        return await self._run(operations.credits(self._setup, user))

    async def grant(self, user: str, amount: int, reference: str) -> int:
        """For services: give credits, once for each reference; the balance after that."""
        return await self._run(operations.grant(self._setup, user, amount, reference))

    async def issue_token(self, user: str, ttl_seconds: int = 3600) -> models.IssuedToken:
        """For services: a token of role `user`, for a page or an app of this user."""
        return await self._run(operations.issue_token(self._setup, user, ttl_seconds))

    # --- the hands ---

    async def _run(self, flow: Flow[T], on_item: Callable[[Any], None] | None = None) -> T:
        async with aclosing(_Hands(self)) as hands:
            with closing(flow):
                told: Any = None
                while True:
                    try:
                        effect = flow.send(told)
                    except StopIteration as end:
                        done: T = end.value
                        return done
                    told = None
                    if not isinstance(effect, effects.Item):
                        told = await hands.perform(effect)
                    elif on_item is not None:
                        on_item(effect.value)

    async def _each(self, flow: Flow[Any]) -> AsyncIterator[Any]:
        async with aclosing(_Hands(self)) as hands:
            with closing(flow):
                told: Any = None
                while True:
                    try:
                        effect = flow.send(told)
                    except StopIteration:
                        return
                    told = None
                    if isinstance(effect, effects.Item):
                        yield effect.value
                    else:
                        told = await hands.perform(effect)


class _Tokens:
    """The token in use, renewed once however many tasks find it refused."""

    def __init__(self, source: Token) -> None:
        self._source = source
        self._lock = anyio.Lock()
        self._current: str | None = None

    async def get(self, refused: str | None) -> str | None:
        async with self._lock:
            if self._current is None or self._current == refused:
                given = self._source() if callable(self._source) else self._source
                self._current = await given if inspect.isawaitable(given) else given
            return self._current


class _Hands:
    """Performs the effects of one flow; at most one response is open."""

    def __init__(self, client: AsyncDarkroom) -> None:
        self._client = client
        self._open: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, effect: Effect) -> Any:
        if isinstance(effect, effects.Send):
            return await self._send(effect, keeps_open=False)
        if isinstance(effect, effects.Open):
            return await self._send(effect, keeps_open=True)
        if isinstance(effect, effects.Read):
            return await self._read()
        if isinstance(effect, effects.GetToken):
            return await self._client._tokens.get(effect.refused)
        if isinstance(effect, effects.Run):
            return await anyio.to_thread.run_sync(effect.call)
        assert isinstance(effect, effects.Pause)
        await anyio.sleep(effect.seconds)
        return None

    async def _send(self, effect: effects.Send | effects.Open, *, keeps_open: bool) -> Answer | Broken:
        await self.aclose()
        client, http = self._client, self._client._http
        given = arguments(client._setup.base, effect.request, effect.token, client._timeout_seconds)
        try:
            response = await http.send(http.build_request(**given), stream=True, follow_redirects=False)
            if keeps_open and response.status_code == 200:
                self._open, self._chunks = response, response.aiter_bytes()
                return answer_of(response, b"")
            async with aclosing(response):
                return answer_of(response, await response.aread())
        except httpx.RequestError as error:
            return Broken(why_of(error))

    async def _read(self) -> bytes | Broken:
        try:
            return b"" if self._chunks is None else await anext(self._chunks, b"")
        except httpx.RequestError as error:
            return Broken(why_of(error))

    async def aclose(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = self._chunks = None
