"""The HTTP client of one service: sends a rendered request, reads the whole answer, knows whether it had left.

A connection is used once: the service may close an idle one at the moment a request goes out on it, and nobody could
say then whether the request was carried out.  Redirects are not followed: they would carry the service's key, and the
user's picture, to somewhere that no setting names.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import aiohttp

from actors.providers.base import ResultLost, Transient, UnknownOutcome
from actors.providers.http.answers import Answer
from actors.providers.http.requests import Outgoing

CONNECT_SECONDS = 20.0
_CHUNK_BYTES = 65_536


class HttpClient:
    """One session, opened with the first request.  most_bytes: of one answer.  Lives on the event loop."""

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Outgoing, timeout_seconds: float) -> Answer:
        """The answer, whatever its status.

        Raises Transient when the request certainly did not leave; UnknownOutcome when it may have and no whole answer
        came (code `ai_timeout` after timeout_seconds); ResultLost for an answer above the limit.
        """
        journey = SimpleNamespace(connected=False)
        try:
            async with self._opened().request(
                request.method,
                request.address,
                data=_body(request),
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS),
                trace_request_ctx=journey,
            ) as response:
                body = await self._read(response)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, body, _document(body))
        except TimeoutError:
            if not journey.connected:
                raise Transient("The AI service can't be reached.") from None
            raise UnknownOutcome(
                f"The AI service did not answer within {timeout_seconds:g} s.", code="ai_timeout"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            if not journey.connected:
                raise Transient(f"The AI service can't be reached ({type(error).__name__}).") from None
            # Not the error's own text: it may hold the address, and that a key.
            raise UnknownOutcome(
                f"The AI service broke off before its answer was complete ({type(error).__name__})."
            ) from None

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

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),  # task slots are the limit
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "Darkroom", "Accept": "application/json, image/*;q=0.9"},
                trust_env=False,
                trace_configs=[_connection_trace()],
            )
        return self._session


def _connection_trace() -> aiohttp.TraceConfig:
    """Notes when a request has its connection: before that, nothing of it can have left."""
    trace = aiohttp.TraceConfig()

    async def note(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        context.trace_request_ctx.connected = True

    trace.on_connection_create_end.append(note)
    return trace


def _body(request: Outgoing) -> bytes | aiohttp.FormData | None:
    if request.fields is None:
        return request.body
    form = aiohttp.FormData(default_to_multipart=True)
    for field in request.fields:
        form.add_field(field.name, field.value, content_type=field.type, filename=field.filename)
    return form


def _document(body: bytes) -> Any:
    """The body as JSON; None for what is none."""
    if body[:64].lstrip()[:1] not in (b"{", b"[", b'"'):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
