"""The descriptions of the operators' addresses about users and about many tasks at once."""

from __future__ import annotations

from typing import Any

from supervisor.selection.task_filter import MEMBERS
from web.openapi import ops_user_schemas, schemas
from web.openapi.operation import (
    AMOUNT,
    BAD_JSON,
    LINE,
    NO_USER,
    REFERENCE,
    USER,
    Answer,
    Operation,
    json_body,
    parameter,
    problem,
)

_CONDITION = {"type": "string", "maxLength": 200}
_FILTER = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": dict.fromkeys(MEMBERS, _CONDITION),
}
_ACTION: dict[str, dict[str, Any]] = {
    "action": {"type": "string", "enum": ["retry", "cancel", "release"]},
    "filter": _FILTER,
}
_EXPECTED = {"type": "integer", "minimum": 0, "maximum": 1_000_000_000}
_BULK_ID = parameter("path", "bulk_id", {"type": "string"}, "An action's id.")
_NO_BULK = problem("There is no such action.")
_AS_IT_IS = Answer("As it stands now.", ops_user_schemas.OpsBulkAction)
_BAD_FILTER = problem("The action or a condition is wrong, or there is no condition.")

OPS_OPERATIONS: dict[str, Operation] = {
    "previewBulkAction": Operation(
        "Operators",
        "What an action on many tasks would concern: how many, which credits, a sample.  Changes nothing.",
        {200: Answer("As it is now.", ops_user_schemas.OpsBulkPreview), **BAD_JSON, 422: _BAD_FILTER},
        "Conditions that are named must all hold.  `from` and `to` are the time of the end for `retry`, and of the"
        " order for the others; `text` is a part of the error's words.",
        body=json_body(["action", "filter"], **_ACTION),
    ),
    "startBulkAction": Operation(
        "Operators",
        "Retry, cancel or release every task that meets a filter.",
        {
            202: Answer("It has begun.", ops_user_schemas.OpsBulkAction),
            **BAD_JSON,
            409: problem("More tasks match than were expected."),
            422: _BAD_FILTER,
        },
        "`filter` and `expected` are those of the preview.  Each task is acted on once, and recorded; a restart of any"
        " part goes on where it was.",
        body=json_body(["action", "filter", "expected"], **_ACTION, expected=_EXPECTED),
    ),
    "listBulkActions": Operation(
        "Operators",
        "The newest actions on many tasks.",
        {200: Answer("At most twenty.", ops_user_schemas.OpsBulkActions)},
    ),
    "showBulkAction": Operation(
        "Operators", "An action on many tasks.", {200: _AS_IT_IS, 404: _NO_BULK}, parameters=(_BULK_ID,)
    ),
    "stopBulkAction": Operation(
        "Operators",
        "Stop an action on many tasks after the part that is being done.",
        {202: _AS_IT_IS, 404: _NO_BULK},
        parameters=(_BULK_ID,),
    ),
    "resumeBulkAction": Operation(
        "Operators",
        "Let a stopped action on many tasks go on where it was stopped.",
        {202: _AS_IT_IS, 404: _NO_BULK},
        parameters=(_BULK_ID,),
    ),
    "showHistory": Operation(
        "Operators",
        "The last hours, a week at most: queue, waits, ends, spending, and marks of deploys.",
        {
            200: Answer("At most some 340 points.", ops_user_schemas.OpsHistory),
            422: problem("A query parameter is wrong."),
        },
        parameters=(
            parameter(
                "query",
                "hours",
                {"type": "integer", "minimum": 1, "maximum": 168},
                "How many; a week if left out.",
            ),
        ),
    ),
    "showDeadLetters": Operation(
        "Operators",
        "What was given up: failed tasks by reason, refused orders of Dramatiq producers, webhooks.",
        {200: Answer("Of the last week.", ops_user_schemas.OpsDeadLetters)},
    ),
    "showCosts": Operation(
        "Operators",
        "What services said they cost, by provider, type and unit, beside the credits that were taken.",
        {200: Answer("Exact sums.", ops_user_schemas.OpsCosts), 422: problem("That is no time.")},
        parameters=(
            parameter("query", "since", {"type": "string", "format": "date-time"}, "This month if left out."),
        ),
    ),
    "listWebhooks": Operation(
        "Operators",
        "Webhook deliveries, newest first.",
        {
            200: Answer("So many.", ops_user_schemas.OpsDeliveries),
            422: problem("A query parameter is wrong."),
        },
        parameters=(
            parameter("query", "failed", {"type": "boolean"}, "Only those that were given up."),
            parameter("query", "limit", {"type": "integer", "minimum": 1, "maximum": 100}, "20 if left out."),
        ),
    ),
    "listBlocked": Operation(
        "Operators",
        "The users who are blocked, the newest first.",
        {200: Answer("At most 200.", ops_user_schemas.OpsBlockedUsers)},
    ),
    "showUser": Operation(
        "Operators",
        "A user: block, balance, ledger, open tasks, limits and their use, and what was refused in the last day.",
        {200: Answer("As it is now.", ops_user_schemas.OpsUser), 404: problem("This user was never seen.")},
        parameters=(USER,),
    ),
    "blockUser": Operation(
        "Operators",
        "Block a user: no door takes anything from them, and their rows by SQL fail as `user_blocked`.",
        {
            200: Answer("The block as it stands.", ops_user_schemas.OpsBlock),
            **BAD_JSON,
            404: NO_USER,
            422: problem("There is no reason, or it would block the admin who asks."),
        },
        "Role `admin`.  Open tasks go on, and the user's feed may still be read.",
        (USER,),
        json_body(["reason"], reason=LINE),
    ),
    "unblockUser": Operation(
        "Operators",
        "End a user's block.",
        {204: Answer("It is ended."), 404: problem("This user is not blocked.")},
        "Role `admin`.",
        (USER,),
    ),
    "grantAsAdmin": Operation(
        "Operators",
        "Grant a user credits, with a record of who did.",
        {
            200: Answer("It was made before; nothing is changed.", schemas.Grant),
            201: Answer("Made.", schemas.Grant),
            **BAD_JSON,
            404: NO_USER,
            409: problem("The reference stands for another user, or another amount."),
            422: problem("The amount or the reference is wrong."),
        },
        "Role `admin`.  With a `reference` a repeat grants nothing more; without one, each request grants anew.",
        (USER,),
        json_body(["amount"], amount=AMOUNT, reference=REFERENCE),
    ),
    "revokeTokensOfUser": Operation(
        "Operators",
        "Revoke every token that a user has had until now.",
        {200: Answer("They are refused.", ops_user_schemas.OpsRevoked), 404: NO_USER},
        "Role `admin`.  Open streams end within 15 seconds; tokens that are made later are valid.",
        (USER,),
    ),
}
