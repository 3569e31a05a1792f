"""A client of the HTTP API: upload, submit, follow the event stream, download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson

from config.settings import Settings, is_loopback
from supervisor.net.http_session import open_session
from supervisor.security.secret import FILE_NAME as SECRET_FILE
from supervisor.security.secret import read_or_make_secret
from supervisor.security.tokens import make_user_token

SELF_MADE_TOKEN_SECONDS = 24 * 3600
CALL_SECONDS = 60.0
SILENCE_SECONDS = 40.0  # the stream beats every 15 s
MOST_FRAME_BYTES = 16 * 2**20
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


AWAY = (502, 503, 504)
LEAST_PAUSE_SECONDS = 0.2  # for any value in a stream


class ApiError(Exception):
    """The service refused, or did not answer; str() is a sentence for the person."""


@dataclass(frozen=True)
class Event:
    """name: `init`, `change`, `reset` or `bye`."""

    name: str
    data: dict[str, Any]

    @property
    def docs(self) -> list[dict[str, Any]]:
        """The present works in the event; a removed work is not among them."""
        return [change["doc"] for change in self.data.get("docChanges", []) if change["dataType"] != "remove"]


def service_address(settings: Settings) -> str:
    """The service's address: the setting, or the one that `up` wrote.  Raises ApiError."""
    if settings.url:
        return settings.url.rstrip("/")
    try:
        return (settings.data_dir / "url").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ApiError(
            f"No Darkroom runs on {settings.data_dir}; start it with `darkroom up`, or set DARKROOM_URL."
        ) from None


def bearer_token(settings: Settings, user: str) -> str:
    """The configured token, or on the service's own host one made from its secret; empty if there is neither."""
    if settings.token is not None:
        return settings.token.get_secret_value()
    on_this_host = not settings.url or is_loopback(urlsplit(settings.url).hostname or "")
    if on_this_host and (settings.secret is not None or (settings.data_dir / SECRET_FILE).exists()):
        secret = read_or_make_secret(settings)
        return make_user_token(secret, user, "operator", ttl_seconds=SELF_MADE_TOKEN_SECONDS)
    return ""


def api_of(settings: Settings, user: str) -> Api:
    """The service that this command acts at.  user: for whom, where no token is set.  Raises ApiError."""
    token = bearer_token(settings, user)
    return Api(service_address(settings), token, is_made_here=bool(token) and settings.token is None)


class Api:
    """An open connection to the service.  Use as an async context manager.

    is_made_here: the token is signed with the secret of DATA_DIR, which need not be the service's: its address may be
    one of this host that leads to another.
    """

    def __init__(self, address: str, token: str, *, is_made_here: bool = False) -> None:
        self.address, self._is_made_here = address, is_made_here
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def __aenter__(self) -> Api:
        self._session = open_session(headers=self._headers, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON answer.  Raises ApiError."""
        try:
            async with self._session.request(method, urljoin(self.address, path), **options) as response:
                body = await response.read()
                if response.status >= 400:
                    raise ApiError(self._refusal(response.status, body))
                return dict(orjson.loads(body)) if body else {}
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise _unreachable(self.address, error) from None

    def _refusal(self, status: int, body: bytes) -> str:
        said = _sentence(status, body)
        if status != 401 or (self._headers and not self._is_made_here):
            return said
        if self._is_made_here:
            said += " It was made with the secret of DARKROOM_DATA_DIR, which that service does not have."
        return f"{said} Set DARKROOM_TOKEN to one of its tokens."

    async def upload(self, picture: Path) -> str:
        """The id of the uploaded picture."""
        form = aiohttp.FormData()
        form.add_field(
            "image", picture.read_bytes(), filename=picture.name, content_type="application/octet-stream"
        )
        return str((await self.call("POST", "/v1/images", data=form))["id"])

    async def upload_file(self, path: Path) -> str:
        """The id of an uploaded film, sound or other file, which is sent as it is read."""
        with path.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("file", file, filename=path.name, content_type="application/octet-stream")
            return str((await self.call("POST", "/v1/files", data=form))["id"])

    async def submit(self, task_type: str, params: dict[str, Any]) -> dict[str, Any]:
        return await self.call("POST", "/v1/tasks", json={"type": task_type, "params": params})

    async def download(self, link: str, stem: Path) -> Path:
        """Save a picture as `stem` plus the suffix of its type; the path."""
        return await self._save(link, lambda type_: stem.with_name(stem.name + SUFFIXES.get(type_, ".bin")))

    async def save(self, link: str, path: Path) -> Path:
        """Save any file under this path, piece by piece; the path."""
        return await self._save(link, lambda _: path)

    async def _save(self, link: str, named: Callable[[str], Path]) -> Path:
        """named: the path for a media type.  What breaks off leaves nothing."""
        try:
            async with self._session.get(
                urljoin(self.address + "/", link),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS),
            ) as response:
                if response.status != 200:
                    raise ApiError(self._refusal(response.status, await response.read()))
                path = named(response.content_type)
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with path.open("wb") as file:
                        async for piece in response.content.iter_chunked(65_536):
                            file.write(piece)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(self.address, error) from None
        return path

    async def feed(self) -> AsyncIterator[Event]:
        """The user's changes, without an end: begins with all existing works, and resumes where a broken stream
        ended."""
        last_id, retry_seconds, failures = "", 1.0, 0
        while True:
            try:
                async for frame in self._frames(last_id):
                    failures = 0
                    last_id = frame.get("id", last_id)
                    if "retry" in frame:
                        retry_seconds = int(frame["retry"]) / 1000
                    if "event" in frame:
                        yield Event(frame["event"], orjson.loads(frame.get("data", "{}")))
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                if failures > 5:
                    raise _unreachable(self.address, error) from None
            await asyncio.sleep(min(max(retry_seconds, LEAST_PAUSE_SECONDS), 3.0))

    async def task_events(self, work_id: str) -> AsyncIterator[dict[str, Any]]:
        """One work's document at each change, the last one final."""
        async for event in self.feed():
            for doc in event.docs:
                if doc["_id"] == work_id:
                    yield doc
                    if doc["status"] in ("completed", "failed", "cancelled"):
                        return

    async def _frames(self, last_id: str) -> AsyncIterator[dict[str, str]]:
        """Fields of each event-stream frame (HTML Living Standard, section 9.2) until the stream ends."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        async with self._session.get(
            self.address + "/v1/works/feed", headers=headers, timeout=timeout, max_line_size=65536
        ) as response:
            if response.status in AWAY:
                raise aiohttp.ClientError  # the service is restarting, or its proxy answers
            if response.status != 200:
                raise ApiError(self._refusal(response.status, await response.read()))
            rest = b""
            async for chunk in response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n\n")
                if len(rest) > MOST_FRAME_BYTES:
                    raise ApiError("The event stream sends a frame without an end.")
                for frame in whole:
                    if fields := _fields(frame.decode()):
                        yield fields


def _fields(frame: str) -> dict[str, str]:
    lines = (line.partition(":") for line in frame.split("\n") if line and not line.startswith(":"))
    return {name: value.removeprefix(" ") for name, _, value in lines}


def _sentence(status: int, body: bytes) -> str:
    """A problem document as one sentence.  What its detail says already is not said twice."""
    try:
        problem = orjson.loads(body)
        detail = str(problem.get("detail") or problem["title"])
        errors = "; ".join(
            error["pointer"] if error["detail"] in detail else f"{error['pointer']}: {error['detail']}"
            for error in problem.get("errors", [])
        )
        return f"{detail} ({errors})" if errors else detail
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"The service answered {status}."


def _unreachable(address: str, error: BaseException) -> ApiError:
    reason = "it did not answer in time" if isinstance(error, TimeoutError) else "nobody answers"
    return ApiError(f"No Darkroom can be reached at {address} ({reason}); start it with `darkroom up`.")
