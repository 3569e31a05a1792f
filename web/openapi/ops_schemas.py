"""Models of the operators' view of the whole system; closed like those of `schemas`.  Seconds are numbers, times are
text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from web.openapi.ops_user_schemas import OpsBulkAction
from web.openapi.schemas import ClosedAnswer, ErrorCode, Id, Percent, Status, Time

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
# By the database's clock, which may be a little ahead of the clock that wrote the time.
Ago = Annotated[float, Field(description="Seconds.")]
StuckReason = Literal["dead_worker", "deadline", "undelivered", "remote_overdue", "expired"]


class OpsTrouble(ClosedAnswer):
    """Something that is wrong."""

    level: Annotated[Literal["bad", "warn"], Field(description="`bad`: users are hurt now.")]
    code: str
    subject: Annotated[str | None, Field(description="What it is about, where it is about one thing.")]
    values: Annotated[dict[str, Any], Field(description="What `text` says in numbers, times and names.")]
    text: Annotated[str, Field(description="A sentence for people: what it is and what to do.")]


class OpsQueue(ClosedAnswer):
    """A type's tasks."""

    type: str
    pending: Count
    due: Annotated[int, Field(description="Of the pending ones, those whose time has come.")]
    processing: Count
    ai_processing: Count
    oldest_seconds: Annotated[
        Seconds, Field(description="For how long the oldest due one waits; 0 for none.")
    ]
    provider: Annotated[str | None, Field(description="Null for a type of no setting.")]
    is_paused: bool
    needs: Annotated[str, Field(description="What a worker must offer; empty for nothing.")]
    has_worker: Annotated[
        bool, Field(description="False while workers take tasks, and none of them takes this type.")
    ]
    usual_seconds: Annotated[
        Seconds | None, Field(description="The longest of its newest runs; null while few are known.")
    ]


class OpsInLine(ClosedAnswer):
    """A task that is soon to run."""

    position: Annotated[Count, Field(description="In the line of all types; 0 is next.")]
    task_id: Id
    user_openid: str
    type: str
    priority: int
    created_at: Time
    waiting_seconds: Seconds


class OpsHeld(ClosedAnswer):
    """What is told of a task that a worker or an AI service has."""

    task_id: Id
    user_openid: str
    type: str
    status: Status
    stage: str
    progress: Percent
    attempt: Count
    lease: Count
    worker: Annotated[str | None, Field(description="The worker process that has it.")]
    deadline_at: Time | None


class OpsRunning(OpsHeld):
    """A task that runs, at a worker or at an AI service."""

    running_seconds: Ago | None
    unchanged_seconds: Annotated[Ago, Field(description="Since anything of it changed.")]
    next_poll_at: Annotated[Time | None, Field(description="When its AI service is asked next.")]


class OpsStuck(OpsHeld):
    """A task that the next rescue takes."""

    reason: StuckReason


class OpsWorker(ClosedAnswer):
    """A worker process."""

    id: str
    host: str
    pid: int
    slots: Count
    busy: Annotated[Count, Field(description="Slots that it has reported busy.")]
    held: Annotated[Count, Field(description="Tasks that it has by the database.")]
    state: Literal["live", "draining", "dead"]
    offers: Annotated[str, Field(description="What types that need it find there; empty for nothing.")]
    types: Annotated[list[str] | None, Field(description="The only ones that it takes; null for all.")]
    started_at: Time
    silent_seconds: Annotated[Ago, Field(description="Since its last heartbeat.")]
    is_fresh: Annotated[bool, Field(description="Whether it shows that it lives.")]


class OpsProvider(ClosedAnswer):
    """An AI service."""

    name: str
    kind: str
    breaker: Literal["closed", "half_open", "open"]
    until: Annotated[Time | None, Field(description="When an open breaker lets one task try.")]
    opened_at: Annotated[Time | None, Field(description="Since when its breaker is open.")]
    open_seconds: Seconds
    reason: Annotated[str, Field(description="What was wrong with the last request; empty when it is well.")]
    troubles: Annotated[Count, Field(description="Requests in a row that ended in trouble.")]
    open_jobs: Count
    is_paused: bool
    types: list[str]


class OpsSweep(ClosedAnswer):
    """A sweep."""

    minute: str
    started_at: Time
    finished_at: Time | None
    counts: Annotated[dict[str, Any], Field(description="What it did, by name.")]
    ago_seconds: Ago


class OpsFailures(ClosedAnswer):
    """A type's failures of the last hour with one error code."""

    type: str
    code: ErrorCode
    message: Annotated[str, Field(description="Of the newest.")]
    count: Annotated[int, Field(ge=1)]
    last_at: Time
    last_task: Id


class OpsWebhooksOpen(ClosedAnswer):
    """Deliveries that are owed."""

    waiting: Count
    sending: Count


class OpsWebhooksEnded(ClosedAnswer):
    """Deliveries that ended within the hour, among the newest thousand."""

    delivered: Count
    failed: Count
    gone: Count


class OpsAddress(ClosedAnswer):
    """An address at which webhooks do not arrive, with its newest delivery."""

    user_openid: str
    url: Annotated[str, Field(description="Without its query, which may be a key.")]
    gone_since: Annotated[Time | None, Field(description="When it answered 410.")]
    owed: Count
    given_up: Annotated[Count, Field(description="Of the last day.")]
    webhook_id: str
    task_id: Id
    last_status: int | None
    last_error: str | None
    next_at: Time | None


class OpsWebhooks(ClosedAnswer):
    """How webhooks stand."""

    open: OpsWebhooksOpen
    ended: OpsWebhooksEnded
    oldest_seconds: Seconds
    addresses: list[OpsAddress]


class OpsPause(ClosedAnswer):
    """What is paused, by whom and why."""

    kind: Literal["type", "provider"]
    name: str
    operator: str
    reason: str
    at: Time


class OpsAction(ClosedAnswer):
    """What an operator did."""

    id: Annotated[int, Field(ge=1)]
    at: Time
    operator: str
    role: Annotated[
        Literal["operator", "admin", "command"] | None,
        Field(description="`command`: on a host of the system.  Null in rows of earlier releases."),
    ]
    action: Literal[
        "cancel",
        "retry",
        "release",
        "drain",
        "pause",
        "resume",
        "resend",
        "sweep",
        "block",
        "unblock",
        "grant",
        "revoke",
        "bulk_retry",
        "bulk_cancel",
        "bulk_release",
        "bulk_stop",
        "bulk_resume",
    ]
    kind: Literal["task", "worker", "type", "provider", "sweep", "user", "token", "bulk"]
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    bulk_id: Annotated[str | None, Field(description="The action on many tasks that this is a part of.")]


class OpsExit(ClosedAnswer):
    """How a process ended last."""

    status: Annotated[int | None, Field(description="Of its exit; below 0, the signal.")]
    text: str
    at: Annotated[float, Field(description="Seconds since 1970.")]


class OpsProcess(ClosedAnswer):
    """A process of the host that answers."""

    name: str
    pid: int | None
    state: str
    restarts: Count
    last_exit: OpsExit | None


class OpsSample(ClosedAnswer):
    """A point of the charts: what stood then, and what had ended since the point before."""

    at: Time
    pending: Count
    running: Count
    stuck: Count
    completed: Seconds
    failed: Seconds


class OpsEnds(ClosedAnswer):
    """How a type's newest tasks of the last hour have ended, at most twenty that workers have run."""

    type: str
    completed: Count
    failed: Annotated[int, Field(ge=1)]
    code: Annotated[ErrorCode, Field(description="Of most of the failures.")]
    message: str


class OpsPostponed(ClosedAnswer):
    """Attempts of the last minute that were put back at no cost."""

    provider: str
    code: Annotated[str, Field(description="As in a task's history.")]
    message: Annotated[str, Field(description="Of the newest.")]
    count: Annotated[int, Field(ge=1)]


class OpsDeadly(ClosedAnswer):
    """An open task under which workers have died at least twice."""

    task_id: Id
    user_openid: str
    type: str
    status: Status
    deaths: Annotated[int, Field(ge=2)]
    max_attempts: Annotated[int, Field(ge=1)]
    worker: str | None


class OpsNotice(ClosedAnswer):
    """What users are refused, or do too often, with the user to whom it happened most often."""

    kind: Literal["blocked", "no_credits", "open_tasks", "queue_full", "streams", "requests", "feed_opened"]
    user_openid: Annotated[str, Field(description="Empty for everybody.")]
    times: Annotated[int, Field(ge=1)]
    first_at: Time
    users: Annotated[int, Field(ge=1)]
    ago_seconds: Ago


class OpsSlots(ClosedAnswer):
    """Task slots of workers that take tasks."""

    all: Count
    busy: Count


class OpsDisk(ClosedAnswer):
    """A disk of the host that answers, without enough room."""

    path: str
    text: str
    is_full: bool


class OpsCaller(ClosedAnswer):
    """Who asks."""

    user: str
    role: Literal["viewer", "operator", "admin"]


class OpsOverview(ClosedAnswer):
    """How everything stands."""

    at: Time
    you: OpsCaller
    troubles: Annotated[list[OpsTrouble], Field(description="The worst first; empty when all is well.")]
    queue: list[OpsQueue]
    line: Annotated[list[OpsInLine], Field(description="The first twenty.")]
    running: list[OpsRunning]
    stuck: list[OpsStuck]
    stuck_counts: dict[str, int]
    workers: list[OpsWorker]
    dispatcher: Annotated[str | None, Field(description="The one that works.")]
    dispatcher_silent_seconds: Annotated[
        Ago | None, Field(description="Since its last beat; null for never.")
    ]
    dispatcher_working_seconds: Annotated[
        Ago | None,
        Field(description="For how long it has worked without a break; null while none works."),
    ]
    judge: Annotated[
        Literal["dispatcher", "clock"],
        Field(
            description="Who judges whether workers live: the dispatcher, or, while it is silent, the database's clock."
        ),
    ]
    providers: list[OpsProvider]
    sweeps: list[OpsSweep]
    failures: list[OpsFailures]
    ends: Annotated[list[OpsEnds], Field(description="Of types of which any has failed.")]
    postponed: list[OpsPostponed]
    deadly: list[OpsDeadly]
    notices: list[OpsNotice]
    pending_limit: Annotated[int, Field(ge=0, description="`LIMITS__PENDING_TASKS`; 0 for none.")]
    slots: OpsSlots
    webhooks: OpsWebhooks
    pauses: list[OpsPause]
    bulk: Annotated[list[OpsBulkAction], Field(description="The newest twenty, newest first.")]
    audit: Annotated[
        list[OpsAction], Field(description="The newest twenty, without the parts of actions on many tasks.")
    ]
    processes: Annotated[list[OpsProcess], Field(description="Of this host, where `darkroom up` runs them.")]
    is_broker_up: bool
    disks: Annotated[list[OpsDisk], Field(description="Those without enough room.")]
    database_refuses: Annotated[
        Literal["full", "read_only"] | None,
        Field(description="Why the database's server takes nothing; the disk of a file `disks` tells."),
    ]
    stopped_up: Annotated[
        int | None, Field(description="The process of this host's `darkroom up`, while it is stopped.")
    ]
    store_trouble: Annotated[
        str | None, Field(description="How the file store has failed this web process in the last minute.")
    ]
    hears_changes: Annotated[bool, Field(description="Whether this web process hears of changes.")]
    clock_ahead_seconds: Annotated[float, Field(description="Of this host, against the database's clock.")]
    samples: Annotated[list[OpsSample], Field(description="An hour, one each 15 s, oldest first.")]
