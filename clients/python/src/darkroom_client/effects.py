"""What a flow asks its client to do.

A *flow* is a generator: all that this package does, written once and without I/O.  It yields effects, is sent what came
of each, and returns the result.  `blocking` and `awaiting` perform the effects, each in its own way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from darkroom_client.errors import UnexpectedAnswer

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """path: below the server's address.  file: (name, bytes) of the one field `file` of a form.

    is_open: it needs no token and is sent none.  read_seconds: the longest silence; None for the client's own time-out.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    file: tuple[str, bytes] | None = None
    is_open: bool = False
    read_seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """headers: with names in lower case.  body: empty where a stream was opened and is to be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """Raises UnexpectedAnswer."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise UnexpectedAnswer(f"Something else than Darkroom answered: {self.body[:200]!r}") from None


@dataclass(frozen=True)
class Broken:
    """No answer, or not the whole of it.  why: in the words of the HTTP library."""

    why: str


@dataclass(frozen=True)
class Send:
    """Answered with an Answer or Broken."""

    request: Request
    token: str | None


@dataclass(frozen=True)
class Open:
    """As Send, but of a 200 the body is left to `Read`.  It closes what was opened before."""

    request: Request
    token: str | None


@dataclass(frozen=True)
class Read:
    """Answered with the next bytes of what was opened, with none at its end, or with Broken."""


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class GetToken:
    """Answered with a token, or None without one.  refused: the token that is good no more."""

    refused: str | None = None


@dataclass(frozen=True)
class Run:
    """Call something that blocks, and be answered with what it returns."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Item:
    """A value for the caller that iterates."""

    value: Any


Effect = Send | Open | Read | Pause | GetToken | Run | Item
Flow = Generator[Effect, Any, T]
