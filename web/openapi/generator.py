"""The description of the API, made from the models that check requests.

It is made for this server: task types, and whether a token is needed, follow from the settings.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from config.declarations import samples
from config.settings import Settings
from supervisor.core.task_params import SubmissionBody, TaskParams
from web.openapi import schemas
from web.openapi.default_sentences import with_defaults_in_words
from web.openapi.operation import RETRY_AFTER, Answer, Operation
from web.openapi.operations import ACTED_FOR, OPERATIONS, TAGS
from web.openapi.ops_task_schemas import OPS_ANSWERS
from web.openapi.ops_user_schemas import USER_ANSWERS
from web.openapi.type_schemas import PARAMS, model_name, params_schema

_REFERENCE = "#/components/schemas/{model}"
_INTRODUCTION = """Hand in a photo; come back for the print.  A task is accepted in milliseconds, runs for up to ten \
minutes or as long as an AI service needs, shows its progress live, and is paid for exactly once.

Every error is `application/problem+json`.  400 is a body that is not JSON, 422 one that is well-formed but wrong.  \
Another user's task looks like a missing one: 404.

Authentication: `Authorization: Bearer <token>`, a JWT (HS256) with `sub`, `role` and `exp`; `darkroom token USER` \
makes one.  Role `service` may act for a user: `X-User: <sub>`.  On a loopback host without a token you are \
the user `demo`, in a browser once it has followed the link that `darkroom up` prints."""


class Address(Protocol):
    """A served address.  operation: the name of its description, "" for none."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def operation(self) -> str: ...


def openapi_document(settings: Settings, addresses: Iterable[Address]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with these settings."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Darkroom",
            "version": _version(),
            "summary": "A task queue for long AI image jobs.",
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": _paths(settings, addresses),
        "components": {
            "schemas": _schemas(settings),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _paths(settings: Settings, addresses: Iterable[Address]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for each in addresses:
        if each.operation:
            described = _operation(each.operation, OPERATIONS[each.operation], settings)
            paths.setdefault(each.path, {})[each.method.lower()] = described
    return paths


def _operation(name: str, operation: Operation, settings: Settings) -> dict[str, Any]:
    parameters = list(operation.parameters)
    answers = dict(operation.answers)
    if operation.needs_token and operation.tag != "Operators":
        parameters.append(ACTED_FOR)
    if operation.needs_token:
        answers.setdefault(401, operation.error("Without a token, or with one that proves nothing."))
        answers.setdefault(
            403,
            operation.error(
                "Not for this caller: a foreign page or proxy, `X-User` without the role, or a user whom an admin has "
                "blocked (kind `user_blocked`; only the feed stays readable)."
            ),
        )
        answers.setdefault(
            429, operation.error("More requests in this minute than are accepted.", RETRY_AFTER)
        )
        answers.setdefault(422, operation.error("`X-User` is no valid user id."))
        answers.setdefault(503, operation.error("The database can't be used just now.", RETRY_AFTER))
    described: dict[str, Any] = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": _security(settings) if operation.needs_token else [],
        "responses": {str(status): _answer(answers[status]) for status in sorted(answers)}
        | {"default": _answer(operation.error("Anything that nobody foresaw."))},
    }
    if operation.details:
        described["description"] = operation.details
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        content = {media: {"schema": _body_schema(schema)} for media, schema in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _security(settings: Settings) -> list[dict[str, list[str]]]:
    nobody: list[dict[str, list[str]]] = [{}] if settings.demo_user and settings.on_loopback else []
    return [{"token": []}, *nobody]


def _body_schema(schema: Any) -> Any:
    return (
        {"$ref": _REFERENCE.format(model=schema)}
        if isinstance(schema, str)
        else with_defaults_in_words(schema)
    )


def _answer(answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": answer.about}
    if answer.headers:
        shown["headers"] = {
            name: {"description": about, "schema": {"type": "string"}}
            for name, about in answer.headers.items()
        }
    if answer.schema is not None:
        media: dict[str, Any] = {"schema": _schema_of(answer.schema)}
        if answer.examples:
            media["examples"] = dict(answer.examples)
        shown["content"] = {answer.media: media}
    return shown


def _schema_of(schema: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(schema, Mapping):
        return dict(schema)
    return {"$ref": _REFERENCE.format(model=schema.__name__)}


def _schemas(settings: Settings) -> dict[str, Any]:
    _, answered = models_json_schema(
        [(model, "serialization") for model in (*schemas.ANSWERS, *OPS_ANSWERS, *USER_ANSWERS)],
        ref_template=_REFERENCE,
    )
    _, accepted = models_json_schema(
        [(SubmissionBody, "validation"), (TaskParams, "validation")], ref_template=_REFERENCE
    )
    found = {name: _tidy(schema) for name, schema in {**answered["$defs"], **accepted["$defs"]}.items()}
    body, anything = found.pop("SubmissionBody"), found.pop(PARAMS)
    for type_, task_type in settings.tasks.items():
        params = params_schema(type_, task_type, anything)
        found[params.name] = with_defaults_in_words(params.schema)
        found[model_name(type_, "Order")] = with_defaults_in_words(_order(body, type_, params.reference))
    names = {type_: model_name(type_, "Order") for type_ in settings.tasks}
    references = {type_: _REFERENCE.format(model=name) for type_, name in names.items()}
    found["Order"] = {
        "description": "A task as it is asked for; `type` says which.",
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
        "examples": [
            {"type": type_, "params": {**params, "images": ["01K2Z3…"] * len(params["images"])}}
            for type_, params in samples().items()
        ],
    }
    return {name: found[name] for name in sorted(found)}


def _order(body: dict[str, Any], type_: str, params: dict[str, Any]) -> dict[str, Any]:
    members = {
        **body["properties"],
        "type": {"type": "string", "const": type_},
        "params": params,
    }
    return {**body, "properties": members, "description": f"An order of type `{type_}`."}


def _tidy(schema: Any) -> Any:
    """Without the titles that pydantic makes of names, and without defaults that only say "absent"."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _tidy(each) for name, each in value.items()}
        elif not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None):
            kept[key] = _tidy(value)
    return kept


def _version() -> str:
    try:
        return importlib.metadata.version("darkroom-queue")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
