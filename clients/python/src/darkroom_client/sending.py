"""How a request of ours is given to httpx, by both clients alike."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import httpx

from darkroom_client.effects import Answer, Request

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)  # each open watch has a connection


_WRONG_IN_HEADER = re.compile(r"[\x00-\x1f\x7f]")


def base_of(url: str) -> str:
    """The server's address without a slash at its end.  Raises ValueError for one at which nothing can be asked."""
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"The address of Darkroom begins with https:// or http://, not {url[:40]!r}.")
    try:
        parsed = httpx.URL(url)
        parsed.raw_host.decode().encode("idna")  # as the system's look-up of names does it
    except (httpx.InvalidURL, ValueError):
        parsed = None
    if parsed is None or not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        raise ValueError(
            "The address of Darkroom is https:// and a host, such as https://pictures.example.com."
        )
    return url.rstrip("/")


def arguments(base: str, request: Request, token: str | None, timeout_seconds: float) -> dict[str, Any]:
    """What `httpx.Client.build_request` is called with.  Raises ValueError for a header that can't be sent."""
    headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **request.headers}
    if token is not None and not request.is_open:
        headers["Authorization"] = f"Bearer {token.strip()}"  # a file of a token ends with a line break
    for name, value in headers.items():
        if _WRONG_IN_HEADER.search(value):  # the value itself may be a secret
            raise ValueError(f"The value for {name} has a line break or another control character in it.")
    url = request.path if "://" in request.path else base + request.path
    given: dict[str, Any] = {
        "method": request.method,
        "url": url,
        "headers": {name: value.encode() for name, value in headers.items()},
    }
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
