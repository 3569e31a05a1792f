"""Models of the operators' view of one user, of what admins do to users, and of actions on many tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from web.openapi.schemas import ClosedAnswer, Id, Percent, Status, Time


class OpsBlocked(ClosedAnswer):
    """A user who is blocked."""

    user_openid: str
    since: Time
    reason: str


class OpsBlockedUsers(ClosedAnswer):
    """The users who were blocked last, the newest first."""

    items: list[OpsBlocked]


class OpsBlock(ClosedAnswer):
    """A user's block, as it stands now."""

    user: str
    since: Time
    reason: str


class OpsUserBlock(ClosedAnswer):
    """Since when a user is blocked, and why."""

    since: Time
    reason: str


class OpsUserEntry(ClosedAnswer):
    """An entry of the ledger."""

    kind: Literal["grant", "debit", "refund"]
    amount: int
    task_id: str | None
    at: Time


class OpsUserTask(ClosedAnswer):
    """A task of the user."""

    task_id: Id
    type: str
    status: Status
    stage: str
    progress: Percent
    attempt: Annotated[int, Field(ge=0)]
    error: dict[str, Any] | None
    created_at: Time
    finished_at: Time | None


class OpsUserLimit(ClosedAnswer):
    """A limit of one user, and how much of it is used now."""

    name: Literal[
        "open_tasks",
        "running_tasks",
        "streams",
        "requests_per_minute",
        "orders_per_minute",
        "uploads_per_minute",
        "feed_tickets_per_minute",
    ]
    used: Annotated[int, Field(ge=0, description="Streams: at this web process.")]
    most: Annotated[int, Field(ge=0, description="0 for no limit.")]


class OpsUserRefusal(ClosedAnswer):
    """What was refused in the last day."""

    what: Annotated[
        Literal["requests", "tasks"],
        Field(description="Requests, of the latest episode; or tasks that failed before they began."),
    ]
    reason: Annotated[str, Field(description="A kind of notice; or the code of the tasks' error.")]
    times: Annotated[int, Field(ge=1)]
    first_at: Time
    last_at: Time
    message: Annotated[str, Field(description="Of the newest task; empty for requests.")]


class OpsUser(ClosedAnswer):
    """All that is known of a user."""

    user: str
    since: Annotated[Time, Field(description="When the user was seen first.")]
    block: OpsUserBlock | None
    tokens_from: Annotated[
        float | None, Field(description="Tokens from before are revoked; seconds since 1970.")
    ]
    balance: int
    entries: Annotated[list[OpsUserEntry], Field(description="The newest fifty.")]
    spent_of_day: Annotated[int, Field(description="Debits less refunds of the last 24 hours.")]
    open: Annotated[list[OpsUserTask], Field(description="The newest fifty.")]
    ended: Annotated[list[OpsUserTask], Field(description="The newest twenty.")]
    limits: list[OpsUserLimit]
    refusals: Annotated[list[OpsUserRefusal], Field(description="The latest first.")]


class OpsHistoryPoint(ClosedAnswer):
    """Some minutes of the last week."""

    at: Annotated[Time, Field(description="Its first minute.")]
    pending: Annotated[int, Field(ge=0, description="The most; so are the next three.")]
    running: Annotated[int, Field(ge=0)]
    stuck: Annotated[int, Field(ge=0)]
    oldest_seconds: Annotated[float, Field(ge=0, description="How long the oldest due task had waited.")]
    wait_seconds: Annotated[
        float | None, Field(description="Mean wait of the attempts that began; null for none.")
    ]
    completed: int
    failed: int
    credits: Annotated[int, Field(description="Debits less refunds.")]
    costs: Annotated[dict[str, float], Field(description="What services said they cost, by unit.")]


class OpsDeploy(ClosedAnswer):
    """The first minute that another program swept."""

    at: Time
    program: Annotated[str, Field(description="Its version, and a digest of its files.")]


class OpsHistory(ClosedAnswer):
    """The last hours."""

    minutes: Annotated[int, Field(ge=1, description="That a point stands for.")]
    points: Annotated[list[OpsHistoryPoint], Field(description="Oldest first.")]
    deploys: list[OpsDeploy]


class OpsDeadTasks(ClosedAnswer):
    """Tasks of a type that failed for one reason."""

    type: str
    code: str | None
    count: Annotated[int, Field(ge=1)]
    message: Annotated[str, Field(description="Of the newest.")]
    last_at: Time
    last_task: str | None


class OpsRefusedOrder(ClosedAnswer):
    """An order by Dramatiq that was refused."""

    message_id: str | None
    user_openid: str | None
    type: str | None
    reason: str
    at: Time


class OpsDelivery(ClosedAnswer):
    """A webhook, as it stands."""

    id: str
    task_id: Id
    user_openid: str
    url: Annotated[str, Field(description="Without its query.")]
    type: str
    state: Literal["waiting", "sending", "delivered", "failed", "gone"]
    attempts: Annotated[int, Field(ge=0)]
    last_status: int | None
    last_error: str | None
    created_at: Time
    due_at: Time
    ended_at: Time | None


class OpsDeliveries(ClosedAnswer):
    """Webhooks, the newest first."""

    items: list[OpsDelivery]


class OpsDeadWebhook(OpsDelivery):
    """A webhook that was given up."""

    state: Literal["failed", "gone"]


class OpsSpent(ClosedAnswer):
    """What a provider said that tasks of a type cost."""

    provider: str
    type: str
    unit: str
    requests: Annotated[int, Field(ge=1)]
    cost: Annotated[str, Field(description="The exact sum, a decimal.")]


class OpsTaken(ClosedAnswer):
    """Credits that tasks of a type took."""

    type: Annotated[str | None, Field(description="Null for tasks whose rows are deleted.")]
    debited: int
    refunded: int
    taken: Annotated[int, Field(description="The debits less the refunds.")]


class OpsCosts(ClosedAnswer):
    """What was spent since a time."""

    since: Time
    costs: list[OpsSpent]
    credits: list[OpsTaken]


class OpsDeadLetters(ClosedAnswer):
    """What was given up and is not tried again by itself."""

    days: Annotated[int, Field(description="For which failed tasks are counted.")]
    tasks: list[OpsDeadTasks]
    orders: Annotated[list[OpsRefusedOrder], Field(description="The newest fifty.")]
    webhooks: Annotated[list[OpsDeadWebhook], Field(description="The newest fifty.")]


class OpsRevoked(ClosedAnswer):
    """From when on a user's tokens are valid."""

    user: str
    not_before: Annotated[float, Field(description="Seconds since 1970; older tokens are refused.")]


class OpsFilter(ClosedAnswer):
    """The conditions that tasks must meet; those that are missing do not matter."""

    type: str | None = None
    code: Annotated[str | None, Field(description="Of the error.")] = None
    provider: Annotated[str | None, Field(description="That was asked, or would be asked first.")] = None
    user: str | None = None
    text: Annotated[
        str | None, Field(description="A part of the error's words, or of the service's own.")
    ] = None
    status: Status | None = None
    from_: Annotated[
        Time | None, Field(alias="from", description="Of the end; of the order if it is open.")
    ] = None
    to: Annotated[Time | None, Field(description="The same; included.")] = None


class OpsMatch(ClosedAnswer):
    """A task that an action would concern."""

    task_id: Id
    user_openid: str
    type: str
    status: Status
    error: dict[str, Any] | None
    attempt: Annotated[int, Field(ge=0)]
    created_at: Time
    finished_at: Time | None


class OpsBulkPreview(ClosedAnswer):
    """What an action on many tasks would concern, up to the moment of the preview."""

    action: Literal["retry", "cancel", "release"]
    filter: Annotated[OpsFilter, Field(description="To be given at the start.")]
    count: Annotated[int, Field(ge=0, description="To be given at the start, as `expected`.")]
    credits: Annotated[
        int,
        Field(
            description="For retry, what users pay again at the old prices; for cancel, what they get back."
        ),
    ]
    sample: Annotated[list[OpsMatch], Field(description="The newest ten.")]


class OpsBulkReason(ClosedAnswer):
    """Why tasks were refused."""

    reason: Annotated[
        str,
        Field(description="`insufficient_credits`, `not_retryable`, `may_be_billed_already`, `database`, …"),
    ]
    count: Annotated[int, Field(ge=1, description="Of tasks.")]
    examples: Annotated[list[str], Field(description="Up to three different sentences.")]


class OpsBulkAction(ClosedAnswer):
    """An action on many tasks, and how far it has come."""

    id: Id
    action: Literal["retry", "cancel", "release"]
    filter: OpsFilter
    operator: str
    role: Literal["operator", "admin", "command"]
    state: Literal["running", "stopped", "done"]
    matched: Annotated[int, Field(ge=0, description="At the start.")]
    done: Annotated[int, Field(ge=0)]
    refused: Annotated[int, Field(ge=0, description="Those that could not be acted on; `reasons` says why.")]
    passed: Annotated[int, Field(ge=0, description="Those that no longer matched when their turn came.")]
    credits: Annotated[int, Field(description="Taken by retry, or given back by cancel, so far.")]
    reasons: Annotated[list[OpsBulkReason], Field(description="The most frequent first.")]
    failure: Annotated[
        str | None,
        Field(
            description="With what its runner failed since the last part; after five failures it is stopped."
        ),
    ]
    created_at: Time
    updated_at: Time
    finished_at: Time | None


class OpsBulkActions(ClosedAnswer):
    """The newest twenty."""

    items: list[OpsBulkAction]


USER_ANSWERS: tuple[type[BaseModel], ...] = (
    OpsBlockedUsers, OpsBlock, OpsUser, OpsRevoked, OpsBulkPreview, OpsBulkAction, OpsBulkActions,
    OpsHistory, OpsDeadLetters, OpsCosts, OpsDeliveries,
)  # fmt: skip
