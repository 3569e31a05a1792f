"""The shape of what is said about an address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def json_body(required: Sequence[str] = (), **members: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `body` of an operation that takes a JSON object with these members, {name: schema}, and no others."""
    of_required = {"required": list(required)} if required else {}
    return {JSON: {"type": "object", **of_required, "additionalProperties": False, "properties": members}}


BAD_JSON: Mapping[int, Answer] = {
    400: problem("The body is not JSON."),
    413: problem("The body has more than 1 MiB."),
    415: problem("The body does not say that it is JSON."),
}
USER = parameter("path", "user", {"type": "string", "minLength": 1, "maxLength": 128}, "A user's openid.")
NO_USER = problem("That can name no user.")
LINE = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^\\u0000-\\u001f]*$"}
AMOUNT = {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}
REFERENCE = {**LINE, "pattern": "^[^\\u0000]*$"}
