"""How a request of ours is given to httpx, by both clients alike."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import httpx

from darkroom_client.effects import Answer, Request

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)  # each open watch has a connection


def base_of(url: str) -> str:
    """The server's address without a slash at its end.  Raises ValueError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"The address of Darkroom begins with https:// or http://, not {url[:40]!r}.")
    return url.rstrip("/")


def arguments(base: str, request: Request, token: str | None, timeout_seconds: float) -> dict[str, Any]:
    """What `httpx.Client.build_request` is called with."""
    headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **request.headers}
    if token is not None and not request.is_open:
        headers["Authorization"] = f"Bearer {token}"
    url = request.path if "://" in request.path else base + request.path
    given: dict[str, Any] = {"method": request.method, "url": url, "headers": headers}
    if request.query:
        given["params"] = dict(request.query)
    if request.body is not None:
        given["content"] = request.body
    if request.file is not None:
        given["files"] = {"file": request.file}
    read = timeout_seconds if request.read_seconds is None else request.read_seconds
    return {**given, "timeout": httpx.Timeout(timeout_seconds, read=read)}


def answer_of(response: httpx.Response, body: bytes) -> Answer:
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, body
    )


def why_of(error: Exception) -> str:
    return str(error) or type(error).__name__


def _version() -> str:
    try:
        return metadata.version("darkroom-client")
    except metadata.PackageNotFoundError:  # run from its source
        return "0"


USER_AGENT = f"darkroom-client/{_version()} (python)"
