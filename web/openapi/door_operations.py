"""What is said about the doors of other services' SDKs: docs/sdks.md says which SDK comes in by which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from web.openapi.operation import JSON, RETRY_AFTER, Answer, Operation, parameter

_TAG = "Other SDKs"
_OBJECT: Mapping[str, Any] = {"type": "object"}
_FORM = "multipart/form-data"


def door_error(about: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in the words of a door."""
    return Answer(about, _OBJECT, JSON, headers or {})


_REFUSALS = {
    400: door_error("The body is not JSON."),
    402: door_error("Too few credits."),
    404: door_error("There is no such model."),
    413: door_error("The body is too large."),
    415: door_error("The body is of another type."),
    422: door_error("The order is wrong, or its task has failed."),
    429: door_error("Too many open tasks, orders or uploads of this user.", RETRY_AFTER),
    503: door_error("The queue is full, or something is away.", RETRY_AFTER),
}


def _at_door(summary: str, answers: Mapping[int, Answer], **more: Any) -> Operation:
    return Operation(_TAG, summary, answers, error=door_error, **more)


def _ordering(summary: str, ok: Mapping[int, Answer], body: Mapping[str, Any], **more: Any) -> Operation:
    return _at_door(summary, {**ok, **_REFUSALS}, body=body, **more)


_OPENAI_ORDER = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "description": "`darkroom/<type>`, or the name that the type declares."},
        "prompt": {"type": "string"},
        "n": {"type": "integer", "minimum": 1},
        "response_format": {"type": "string", "enum": ["b64_json", "url"]},
        "stream": {"type": "boolean"},
    },
}
_OPENAI_FORM = {
    **_OPENAI_ORDER,
    "properties": {**_OPENAI_ORDER["properties"], "image": {"type": "string", "format": "binary"}},  # type: ignore[dict-item]
}
_PREDICTION_ORDER = {
    "type": "object",
    "required": ["input"],
    "properties": {
        "version": {"type": "string", "description": "A model's version, where the path names no model."},
        "input": {"type": "object"},
        "webhook": {"type": "string"},
        "webhook_events_filter": {"type": "array", "items": {"type": "string"}},
    },
}
_PREDICTION = Answer("The prediction.", _OBJECT)
_NO_PREDICTION = door_error("The user has no such prediction.")
_TASK = parameter("path", "task_id", {"type": "string"}, "A prediction's id: the task's.")
_OWNER = parameter("path", "owner", {"type": "string"}, "`darkroom`, or what the type declares.")
_NAME = parameter("path", "model_name", {"type": "string"}, "The type, or what it declares.")
_VERSION = parameter("path", "version", {"type": "string"}, "The version's id.")
_WAIT = parameter(
    "header",
    "Prefer",
    {"type": "string", "examples": ["wait", "wait=30"]},
    "`wait` or `wait=N`: hold the order until its end, or so many seconds.",
)
_APP = parameter(
    "path", "app_path", {"type": "string"}, "The model, `darkroom/<type>` or what the type declares."
)
_REQUEST = parameter(
    "path", "app_path", {"type": "string"}, "`<owner>/<name>/requests/<id>`, and what of it."
)
_LOGS = parameter("query", "logs", {"type": "string"}, "`1` or `true`: with its progress as a log.")
_FAL_WEBHOOK = parameter("query", "fal_webhook", {"type": "string"}, "An address that is told of the end.")
_TARGET = parameter(
    "header", "x-fal-target-url", {"type": "string"}, "One of fal's own addresses; it is only read."
)
_UPLOAD_ID = parameter("path", "upload_id", {"type": "string"}, "The file's id.")
_PROOF = (
    parameter("query", "exp", {"type": "string"}, "As the address has it."),
    parameter("query", "sig", {"type": "string"}, "As the address has it."),
)
_UPLOADED = {
    413: door_error("The file is too large."),
    415: door_error("The file is of no kind that is taken."),
    422: door_error("The picture can't be used."),
    429: door_error("Too many uploads of this user.", RETRY_AFTER),
    503: door_error("Something is away.", RETRY_AFTER),
}
_PICTURES = {200: Answer("The pictures, once they are there; with `stream`, events.", _OBJECT)}
_MODEL = parameter("path", "model", {"type": "string"}, "A name of the list.")
_NO_MODEL = _REFUSALS[404]
_NO_REQUEST = door_error("The user has no such request.")
_REQUEST_FAILED = door_error("The request has failed, or was cancelled.")
_OTHER_METHOD = door_error("Not by this method.")
_NO_FILE = door_error("There is no such file.")

DOOR_OPERATIONS: dict[str, Operation] = {
    "openaiGenerate": _ordering("OpenAI's SDKs: make pictures.", _PICTURES, {JSON: _OPENAI_ORDER}),
    "openaiEdit": _ordering("OpenAI's SDKs: make pictures from pictures.", _PICTURES, {_FORM: _OPENAI_FORM}),
    "openaiVary": _ordering("OpenAI's SDKs: vary a picture.", _PICTURES, {_FORM: _OPENAI_FORM}),
    "openaiListModels": _at_door("OpenAI's SDKs: list the types.", {200: Answer("Every type.", _OBJECT)}),
    "openaiShowModel": _at_door(
        "OpenAI's SDKs: look at a type.",
        {200: Answer("The type.", _OBJECT), 404: _NO_MODEL},
        parameters=(_MODEL,),
    ),
    "replicateCreate": _ordering(
        "Replicate's SDKs: order by a version.",
        {201: _PREDICTION},
        {JSON: _PREDICTION_ORDER},
        parameters=(_WAIT,),
    ),
    "replicateCreateOfModel": _ordering(
        "Replicate's SDKs: order by a model.",
        {201: _PREDICTION},
        {JSON: _PREDICTION_ORDER},
        parameters=(_OWNER, _NAME, _WAIT),
    ),
    "replicateList": _at_door("Replicate's SDKs: list predictions.", {200: Answer("The newest.", _OBJECT)}),
    "replicateShow": _at_door(
        "Replicate's SDKs: look at a prediction; held until there is news.",
        {200: _PREDICTION, 404: _NO_PREDICTION},
        parameters=(_TASK,),
    ),
    "replicateCancel": _at_door(
        "Replicate's SDKs: cancel a prediction.", {200: _PREDICTION, 404: _NO_PREDICTION}, parameters=(_TASK,)
    ),
    "replicateStream": _at_door(
        "Replicate's SDKs: hear a prediction; the address is signed and needs no key.",
        {
            200: Answer(
                "Events: `logs`, `output`, `error`, `done`.", {"type": "string"}, "text/event-stream"
            ),
            403: door_error("The address was altered or has expired."),
            404: _NO_PREDICTION,
            503: door_error("Too many wait here.", RETRY_AFTER),
        },
        parameters=(_TASK, *_PROOF),
        needs_token=False,
    ),
    "replicateShowModel": _at_door(
        "Replicate's SDKs: look at a model.",
        {200: Answer("The model.", _OBJECT), 404: _NO_MODEL},
        parameters=(_OWNER, _NAME),
    ),
    "replicateShowVersion": _at_door(
        "Replicate's SDKs: look at a model's version.",
        {200: Answer("The version.", _OBJECT), 404: door_error("There is no such model or version.")},
        parameters=(_OWNER, _NAME, _VERSION),
    ),
    "replicateUpload": _at_door(
        "Replicate's SDKs: upload a file.",
        {
            201: Answer("The file; `urls.get` is an input.", _OBJECT),
            413: door_error("The file is too large."),
            415: door_error("The file is of no kind that is taken, or the body is no form."),
            422: door_error("The form is broken, or the picture can't be used."),
            429: door_error("Too many uploads of this user.", RETRY_AFTER),
            503: door_error("Something is away.", RETRY_AFTER),
        },
        body={
            _FORM: {
                "type": "object",
                "required": ["content"],
                "properties": {"content": {"type": "string", "format": "binary"}},
            }
        },
    ),
    "replicateWebhookSecret": _at_door(
        "Replicate's SDKs: the key that signs this user's webhooks of the doors.",
        {200: Answer("The key.", _OBJECT)},
    ),
    "falSubmit": _ordering(
        "fal's SDKs: put a request into the queue.",
        {200: Answer("The request's id and addresses.", _OBJECT)},
        {JSON: _OBJECT},
        parameters=(_APP, _FAL_WEBHOOK),
    ),
    "falLook": _at_door(
        "fal's SDKs: a request's status, held until there is news, or its result.",
        {
            200: Answer("`…/requests/{id}/status`, `…/status/stream`, or `…/requests/{id}`.", _OBJECT),
            400: door_error("The request has not ended."),
            404: _NO_REQUEST,
            405: _OTHER_METHOD,
            422: _REQUEST_FAILED,
        },
        parameters=(_REQUEST, _LOGS),
    ),
    "falCancel": _at_door(
        "fal's SDKs: cancel a request.",
        {
            202: Answer("Cancelled.", _OBJECT),
            400: door_error("The request has ended."),
            404: _NO_REQUEST,
            405: _OTHER_METHOD,
        },
        parameters=(_REQUEST,),
    ),
    "falRun": _ordering(
        "fal's SDKs: order and wait for the output; with `/stream` behind the model, events.",
        {200: Answer("The output.", _OBJECT)},
        {JSON: _OBJECT},
        parameters=(_APP,),
    ),
    "falProxySubmit": _ordering(
        "fal's SDK for JavaScript: order by fal's own address.",
        {200: Answer("As at that address.", _OBJECT)},
        {JSON: _OBJECT},
        parameters=(_TARGET,),
    ),
    "falProxyLook": _at_door(
        "fal's SDK for JavaScript: look by fal's own address.",
        {
            200: Answer("As at that address.", _OBJECT),
            400: door_error("The address is none of fal's, or the request has not ended."),
            404: _NO_REQUEST,
            405: _OTHER_METHOD,
            422: _REQUEST_FAILED,
        },
        parameters=(_TARGET,),
    ),
    "falProxyCancel": _at_door(
        "fal's SDK for JavaScript: cancel by fal's own address.",
        {
            202: Answer("Cancelled.", _OBJECT),
            400: door_error("The address is none of fal's, or the request has ended."),
            404: _NO_REQUEST,
            405: _OTHER_METHOD,
        },
        parameters=(_TARGET,),
    ),
    "falUploadToken": _at_door(
        "fal's SDK for Python: with what to upload.", {200: Answer("A token.", _OBJECT)}
    ),
    "falUpload": _at_door(
        "fal's SDK for Python: upload a file.",
        {200: Answer("Its address.", _OBJECT), **_UPLOADED},
        body={"*/*": {}},
    ),
    "falBeginUpload": _at_door(
        "fal's SDKs: where to put a file, and where it will be.",
        {
            200: Answer("Two signed addresses.", _OBJECT),
            400: door_error("The body is not JSON."),
            413: door_error("The body is too large."),
            415: door_error("The body is of another type."),
            422: door_error("The body holds too much."),
        },
        body={JSON: _OBJECT},
    ),
    "falPutUpload": _at_door(
        "fal's SDKs: put the file; the address is signed and needs no key.",
        {
            200: Answer("Stored.", _OBJECT),
            403: door_error(
                "The address was altered or has expired, or its user is blocked (`user_blocked`)."
            ),
            404: _NO_FILE,
            **_UPLOADED,
        },
        parameters=(
            _UPLOAD_ID,
            parameter("query", "user", {"type": "string"}, "As the address has it."),
            *_PROOF,
        ),
        body={"*/*": {}},
        needs_token=False,
    ),
    "falFetchUpload": _at_door(
        "fal's SDKs: fetch an uploaded file; the address is signed and needs no key.",
        {
            302: Answer("Where it is."),
            403: door_error("The address was altered or has expired."),
            404: _NO_FILE,
        },
        parameters=(_UPLOAD_ID, *_PROOF),
        needs_token=False,
    ),
}
