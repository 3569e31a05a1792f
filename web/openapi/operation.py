"""The shape of what is said about an address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from web.openapi import schemas

JSON = "application/json"
PROBLEM = "application/problem+json"
RETRY_AFTER = {"Retry-After": "Seconds after which it may be tried again."}


@dataclass(frozen=True)
class Answer:
    """An answer to be expected.  schema: a model, or JSON Schema; None for an empty body."""

    about: str
    schema: type[BaseModel] | Mapping[str, Any] | None = None
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)


def problem(about: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error's answer."""
    return Answer(about, schemas.Problem, PROBLEM, headers or {})


@dataclass(frozen=True)
class Operation:
    """An address as it is described.  body: {media type: schema, or the name of one}.  error: how errors are told."""

    tag: str
    summary: str
    answers: Mapping[int, Answer]
    details: str = ""
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    needs_token: bool = True
    error: Callable[..., Answer] = problem


def parameter(place: str, name: str, schema: Mapping[str, Any], about: str) -> Mapping[str, Any]:
    """A part of a path, of a query, or a header."""
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": about}
