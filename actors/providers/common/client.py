"""The HTTP client of one service: sends a rendered request, reads the whole answer, and knows whether the request was
sent.

A request is sent once, over a connection of its own (`supervisor.net.http_session`).  Redirects are not followed: they
would send the service's key, and the user's picture, to a host that no setting names.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from actors.net.given_addresses import as_given
from actors.providers.base import CutOff, ResultLost, Transient, UnknownOutcome, Unreachable
from actors.providers.common import exchanges
from actors.providers.common.answers import Answer
from actors.providers.common.event_stream import EventReader, ServerEvent
from actors.providers.common.requests import Outgoing
from supervisor.net.http_session import open_session
from supervisor.objects.disk_space import is_full

CONNECT_SECONDS = 20.0
_CHUNK_BYTES = 65_536


class HttpClient:
    """One session, opened with the first request.  most_bytes: of one answer.  Lives on the event loop."""

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, request: Outgoing, timeout_seconds: float, listen: Callable[[ServerEvent], None] | None = None
    ) -> Answer:
        """The answer, with any status, to a request that is sent once.

        listen: called with each event of an event stream; the body is then empty.

        Raises Unreachable if the request was certainly not sent; UnknownOutcome if it may have been sent and no
        complete answer came (code `ai_timeout` after timeout_seconds, CutOff if the connection ended); ResultLost for
        an answer above the limit.
        """
        try:
            address = as_given(request.address)
        except ValueError:
            raise Transient("The AI service's address is none that can be asked for.") from None
        journey = SimpleNamespace(connected=False)
        try:
            async with self._opened().request(
                request.method,
                address,
                data=_body(request),
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS),
                trace_request_ctx=journey,
            ) as response:
                if listen is not None and response.content_type == "text/event-stream":
                    await self._listen(response, listen)
                    body = b""
                else:
                    body = await self._read(response)
                headers = {name.lower(): value for name, value in response.headers.items()}
                answer = Answer(response.status, headers, body, document_of(body))
                exchanges.note(request, answer)
                return answer
        except TimeoutError:
            if not journey.connected:
                raise _unreachable(
                    "The AI service can't be reached: no connection in time.", address
                ) from None
            raise UnknownOutcome(
                f"The AI service did not answer within {timeout_seconds:g} s.", code="ai_timeout"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            if not journey.connected:
                raise _unreachable(f"The AI service can't be reached ({_why(error)}).", address) from None
            # Not the error's own text: it may hold the address, which may hold a key.
            raise CutOff(
                f"The AI service broke off before its answer was complete ({type(error.__cause__ or error).__name__})."
            ) from None

    async def question(self, request: Outgoing, timeout_seconds: float) -> Answer:
        """The answer to a request that costs nothing and may be repeated without effect.

        Raises Transient without an answer, Unreachable without a connection, ResultLost for an answer above the limit.
        """
        try:
            return await self.ask(request, timeout_seconds)
        except ResultLost:
            raise
        except UnknownOutcome as error:
            raise Transient(error.message) from None

    async def download(
        self, request: Outgoing, path: Path, *, most_bytes: int, stalled_seconds: float
    ) -> Answer:
        """The answer to a question for a file: the body of one with status 200 is written to the path, piece by piece.

        stalled_seconds: how long nothing may come.  Raises Transient, Unreachable; ResultLost for one above the limit.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=stalled_seconds)
        try:
            async with self._opened().request(
                request.method,
                as_given(request.address),
                headers=request.headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                if response.status != 200:
                    body = await self._read(response)
                    return Answer(response.status, headers, body, document_of(body))
                length = 0
                with path.open("wb") as file:
                    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                        length += len(chunk)
                        if length > most_bytes:
                            raise ResultLost(f"The AI service's file is larger than {most_bytes} bytes.")
                        await asyncio.to_thread(file.write, chunk)
                return Answer(200, headers, b"")
        except ValueError:
            raise Transient("The AI service's address is none that can be asked for.") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and is_full(error):
                raise  # our own disk
            raise Transient(f"The AI service's file could not be fetched ({_why(error)}).") from None

    @contextlib.asynccontextmanager
    async def socket(
        self, address: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket.  Raises aiohttp.ClientError, OSError, TimeoutError."""
        timeout = aiohttp.ClientWSTimeout(ws_close=1)
        async with self._opened().ws_connect(
            address,
            headers=headers,
            timeout=timeout,
            max_msg_size=self._most_bytes,
        ) as opened:
            yield opened

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._most_bytes:
                raise ResultLost(f"The AI service's answer is larger than {self._most_bytes} bytes.")
        return bytes(body)

    async def _listen(self, response: aiohttp.ClientResponse, listen: Callable[[ServerEvent], None]) -> None:
        reader, length = EventReader(), 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            length += len(chunk)
            if length > self._most_bytes:
                raise ResultLost(f"The AI service's answer is larger than {self._most_bytes} bytes.")
            for event in reader.feed(chunk):
                listen(event)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(  # of any number of connections: task slots are the limit
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "Darkroom", "Accept": "application/json, image/*;q=0.9"},
                trace_configs=[_connection_trace()],
            )
        return self._session


def _connection_trace() -> aiohttp.TraceConfig:
    """Records when a request has its connection: before that, none of it can have been sent."""
    trace = aiohttp.TraceConfig()

    async def note(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.connected = True

    trace.on_connection_create_end.append(note)
    return trace


def _unreachable(message: str, address: URL) -> Unreachable:
    """The error; its detail names the server for operators, without what may be secret in the address."""
    error = Unreachable(message)
    error.detail = f"No server answered at {address.origin()}."
    return error


def _why(error: Exception) -> str:
    """The reason for the missing connection, in words without an address."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name has no address"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "its certificate or its TLS is not accepted"
        case OSError() if error.errno == errno.ECONNREFUSED:
            return "connection refused"
        case _:
            return type(error).__name__


def _body(request: Outgoing) -> bytes | aiohttp.FormData | None:
    if request.fields is None:
        return request.body
    form = aiohttp.FormData(default_to_multipart=True)
    for field in request.fields:
        form.add_field(field.name, field.value, content_type=field.type, filename=field.filename)
    return form


def document_of(body: bytes) -> Any:
    """The body as JSON; None if it is not JSON."""
    if body[:64].lstrip()[:1] not in (b"{", b"[", b'"'):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
