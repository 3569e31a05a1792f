"""Models of the operators' view of one task, and of the answers to their actions; closed like those of `schemas`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from web.openapi.ops_schemas import Ago, Count, OpsAction, OpsHeld, OpsOverview, StuckReason
from web.openapi.schemas import ClosedAnswer, Id, Percent, Status, TaskError, TaskEvent, TaskStep, Time

WebhookState = Literal["waiting", "sending", "delivered", "failed", "gone"]
EndOfTask = Literal["task.completed", "task.failed", "task.cancelled"]


class OpsFoundTask(ClosedAnswer):
    """A task that was looked for."""

    task_id: Id
    user_openid: str
    type: str
    status: Status
    stage: str
    progress: Percent
    queue_position: Annotated[int | None, Field(ge=0, description="0 is next; null unless pending.")]
    eta_seconds: Count | None
    attempt: Count
    max_attempts: Annotated[int, Field(ge=1)]
    error: TaskError | None
    created_at: Time
    stuck: Annotated[StuckReason | None, Field(description="Why, with `stuck=true`; else left out.")] = None


class OpsFoundTasks(ClosedAnswer):
    """Tasks, newest first."""

    items: list[OpsFoundTask]
    next: Annotated[str | None, Field(description="`cursor` of the page after; null at the end.")]


class OpsTask(OpsHeld):
    """A task's row."""

    priority: int
    charge: Annotated[int, Field(ge=1)]
    failures: Count
    deaths: Count
    max_attempts: Annotated[int, Field(ge=1)]
    error: TaskError | None
    run_after: Time | None
    next_poll_at: Time | None
    remote_deadline_at: Time | None
    expires_at: Time | None
    created_at: Time
    updated_at: Time
    processing_started_at: Time | None
    finished_at: Time | None
    unchanged_seconds: Annotated[Ago, Field(description="Since its user saw anything new of it.")]
    limit_at: Annotated[
        Time | None,
        Field(description="When its time limit strikes; `deadline_at` is later, by `STUCK_GRACE_SECONDS`."),
    ]


class OpsHolder(ClosedAnswer):
    """The worker that has it, or had it last."""

    id: str
    host: str
    pid: int
    state: str
    silent_seconds: Annotated[Ago, Field(description="Since its last heartbeat.")]


class OpsRemoteJob(ClosedAnswer):
    """A request to an AI service."""

    provider: str
    state: Literal["submitting", "waiting", "done", "failed", "lost", "cancelled", "unknown"]
    remote_id: str | None
    lease: Count
    charge: Annotated[int, Field(ge=1)]
    cancel_wanted: bool
    age_seconds: Ago
    created_at: Time
    updated_at: Time


class OpsCost(ClosedAnswer):
    """What an AI service said that a request has cost."""

    attempt: Count
    lease: Count
    charge: Annotated[int, Field(ge=1)]
    provider: str
    cost: Annotated[str, Field(description="A decimal number, as the service wrote it.")]
    unit: Annotated[str, Field(description="The provider's `COST_UNIT`.")]
    at: Time


class OpsWebhookAttempt(ClosedAnswer):
    """An attempt to deliver a webhook."""

    at: Time
    attempt: Annotated[int, Field(ge=1, description="Since it was last sent from the beginning.")]
    ended_at: Annotated[
        Time | None, Field(description="Null while it is made, and where its worker died in it.")
    ]
    status: Annotated[int | None, Field(description="Of the answer, if there was one.")]
    error: Annotated[str | None, Field(description="Why it has not arrived.")]
    next_at: Annotated[Time | None, Field(description="When the next was due.")]


class OpsWebhook(ClosedAnswer):
    """What a task's webhook was or will be told."""

    id: str
    type: EndOfTask
    url: Annotated[str, Field(description="Without its query, which may be a key.")]
    state: WebhookState
    attempts: Count
    due_at: Time
    last_status: int | None
    last_error: str | None
    created_at: Time
    ended_at: Time | None
    tries: list[OpsWebhookAttempt]


class OpsService(ClosedAnswer):
    """The AI service that has it, or will be asked."""

    name: Annotated[str | None, Field(description="Null for a type of no setting.")]
    is_available: Annotated[
        bool, Field(description="False while it is paused, or its breaker keeps all from it.")
    ]
    is_paused: bool
    down_since: Annotated[Time | None, Field(description="Since when its breaker is open.")]
    down_reason: str | None
    asked_next_at: Annotated[Time | None, Field(description="When one request tries it again.")]
    may_bill_twice: bool
    ai_timeout_seconds: float | None
    asked_seconds: Annotated[
        Ago | None, Field(description="For how long a request has been without an answer.")
    ]
    remote_id: Annotated[str | None, Field(description="The service's name of the job that it has accepted.")]


class OpsHouse(ClosedAnswer):
    """Whether anything would be started now."""

    is_dispatcher_fresh: bool
    dispatcher_silent_seconds: Ago | None
    takes_tasks: Annotated[bool, Field(description="Whether any worker does.")]
    free_slots: Count
    is_broker_up: bool


class OpsLimits(ClosedAnswer):
    """Of its user and type: how many run, and how many may; 0 for no limit."""

    user_running: Count
    user_limit: Count
    type_running: Count
    type_limit: Count


class OpsRoom(ClosedAnswer):
    """Of its type: what it needs, and who has that."""

    needs: Annotated[str, Field(description="What a worker must offer; empty for nothing.")]
    has_worker: Annotated[
        bool, Field(description="False while workers take tasks, and none of them takes this type.")
    ]
    free: Annotated[Count, Field(description="How many of its tasks would find room now.")]


class OpsWhy(ClosedAnswer):
    """Why a task is where it is, what becomes of it by itself, and what can be done."""

    code: str
    values: Annotated[
        dict[str, str | float | None], Field(description="What `text` says in numbers, times and names.")
    ]
    text: str


class OpsAttemptLog(ClosedAnswer):
    """The last log lines of an attempt that did not succeed, without secrets and shortened."""

    attempt: Count
    lease: Count
    worker: str | None
    at: Time
    lines: list[str]


class OpsExaminedTask(ClosedAnswer):
    """Everything that is known of a task."""

    why: OpsWhy
    task: OpsTask
    queue_position: Annotated[int | None, Field(ge=0, description="0 is next; null unless pending.")]
    eta_seconds: Count | None
    stuck: StuckReason | None
    worker: OpsHolder | None
    house: OpsHouse
    limits: OpsLimits
    room: OpsRoom
    is_paused: Annotated[bool, Field(description="Whether its type is.")]
    unbegun_seconds: Annotated[
        float | None, Field(description="Since it was given to a worker that has not said that it began it.")
    ]
    waits_for_its_time: Annotated[bool, Field(description="Whether its `run_after` is ahead.")]
    waits_for_room: Annotated[
        bool, Field(description="Whether what was made waits for a full store or disk.")
    ]
    service: OpsService
    events: list[TaskEvent]
    steps: Annotated[list[TaskStep], Field(description="Of a type with steps; else empty.")]
    remote_jobs: list[OpsRemoteJob]
    costs: list[OpsCost]
    logs: list[OpsAttemptLog]
    webhooks: list[OpsWebhook]
    audit: list[OpsAction]


class OpsMoved(ClosedAnswer):
    """A task after an action."""

    task_id: Id
    status: Status
    attempt: Count


class OpsDraining(ClosedAnswer):
    """A worker that takes nothing new."""

    worker: str
    state: Literal["draining"]


class OpsResent(ClosedAnswer):
    """A webhook that is due now."""

    webhook_id: str
    task_id: Id
    state: Literal["waiting"]


class OpsPaused(ClosedAnswer):
    """What is paused now."""

    kind: Literal["type", "provider"]
    name: str
    reason: str


class OpsSwept(ClosedAnswer):
    """What a sweep did."""

    counts: Annotated[dict[str, Any], Field(description="By name.")]


OPS_ANSWERS: tuple[type[BaseModel], ...] = (
    OpsOverview, OpsFoundTasks, OpsExaminedTask, OpsMoved, OpsDraining, OpsResent, OpsPaused, OpsSwept,
)  # fmt: skip
