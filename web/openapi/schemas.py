"""Models of the API's answers: the description is made from them, and tests check every answer against them.

They are closed: a member of an answer that is missing here is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, description="UTC, RFC 3339, milliseconds.")
]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Path = Annotated[str, Field(pattern=r"^/")]
Status = Literal["pending", "processing", "ai_processing", "completed", "failed", "cancelled"]
Percent = Annotated[int, Field(ge=0, le=100)]
ErrorCode = Literal[
    "bad_params",
    "unknown_type",
    "insufficient_credits",
    "image_not_found",
    "image_unusable",
    "no_person_found",
    "time_limit",
    "ai_timeout",
    "invalid_input",
    "content_rejected",
    "provider_error",
    "provider_down",
    "unknown_outcome",
    "remote_lost",
    "expired",
    "user_blocked",
    "worker_died",
    "internal",
]


class ClosedAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: Annotated[
        str, Field(description="`urn:darkroom:problem:<kind>`, or `about:blank` where the status says all.")
    ]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="A sentence for people.")]
    instance: Annotated[str, Field(description="The path that was asked for.")]
    request_id: Annotated[str, Field(description="As in `X-Request-Id`; it stands in the server's log.")]
    errors: Annotated[list[Mistake] | None, Field(description="Bad input: what is wrong where.")] = None


class Mistake(ClosedAnswer):
    """One thing that is wrong with the input."""

    pointer: Annotated[str, Field(description="RFC 6901, into the body; of a query or header, its name.")]
    detail: str


class UploadedImage(ClosedAnswer):
    """An upload, upright and without metadata."""

    id: Id
    url: Annotated[Path, Field(description="Signed; good for `FILE_LINK_SECONDS`.")]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]


class UploadedFile(ClosedAnswer):
    """An upload of any kind; a picture is upright and without metadata, and has its size."""

    id: Id
    url: Annotated[Path, Field(description="Signed; good for `FILE_LINK_SECONDS`.")]
    media_type: Annotated[str, Field(description="By its bytes.")]
    bytes: Annotated[int, Field(ge=1)]
    name: str
    width: int | None = None
    height: int | None = None


class Thumbnail(ClosedAnswer):
    """A small WebP of a finished picture, its long side at most 480 pixels; transparent where the picture is."""

    url: Annotated[Path, Field(description="Signed; good for `FILE_LINK_SECONDS`.")]
    width: int
    height: int


class Picture(ClosedAnswer):
    """A finished picture."""

    url: Annotated[Path, Field(description="Signed; good for `FILE_LINK_SECONDS`.")]
    width: int
    height: int
    thumbnail: Annotated[Thumbnail | None, Field(description="Null where the picture has none.")]


class OutputFile(ClosedAnswer):
    """A finished film, sound or other file."""

    url: Annotated[Path, Field(description="Signed; good for `FILE_LINK_SECONDS`.")]
    media_type: str
    bytes: int
    name: Annotated[str, Field(description="As it may be saved.")]
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None


class TaskError(ClosedAnswer):
    """Why a task failed."""

    code: ErrorCode
    message: Annotated[str, Field(description="A sentence for the user.")]


class TaskUrls(ClosedAnswer):
    """Where to go on from."""

    task: Path
    work: Path
    feed: Path
    cancel: Path


class AcceptedTask(ClosedAnswer):
    """A task that is stored, paid and in line."""

    task_id: Id
    work_id: Id
    status: Status
    queue_position: Annotated[int | None, Field(ge=0, description="0 is next; null unless pending.")]
    urls: TaskUrls


OutputFiles = Annotated[
    list[OutputFile] | None, Field(description="Films, sound and other files, where it made any.")
]
OutputData = Annotated[
    Any, Field(description="JSON that it made; null in the feed and in lists above 16 KiB, see `data_url`.")
]
DataUrl = Annotated[Path | None, Field(description="Where data above 16 KiB is; signed.")]


class TaskResult(ClosedAnswer):
    """What a completed task has made."""

    images: list[Picture]
    files: OutputFiles = None
    data: OutputData = None
    data_url: DataUrl = None


class TaskStep(ClosedAnswer):
    """A step of a task whose type has steps."""

    name: str
    status: Annotated[
        Literal["waiting", "running", "done", "resumed", "failed", "cancelled"],
        Field(description="`resumed`: its results are those of an earlier run of the task."),
    ]
    progress: Percent
    run_seconds: Annotated[float | None, Field(ge=0, description="Of the attempt that finished it.")]
    cost: Annotated[
        dict[str, str],
        Field(
            description="What AI services have reported that it cost, {unit: amount}; empty without a report."
        ),
    ]
    images: Annotated[
        list[Picture] | None, Field(description="What it has made, of a step whose files are kept.")
    ] = None


class Task(ClosedAnswer):
    """A task as it is now."""

    task_id: Id
    work_id: Annotated[Id | None, Field(description="Null until the task is admitted.")]
    type: str
    status: Status
    stage: Annotated[str, Field(description="A word or two on what is being done.")]
    progress: Percent
    queue_position: Annotated[int | None, Field(ge=0, description="0 is next; null unless pending.")]
    eta_seconds: Annotated[int | None, Field(ge=0, description="Null where nothing is known yet.")]
    attempt: Annotated[
        int,
        Field(
            ge=0,
            description="Which of its `max_attempts` it is at; a run that cost nothing, as under a worker that died, "
            "is not counted.",
        ),
    ]
    max_attempts: Annotated[int, Field(ge=1)]
    error: TaskError | None
    result: TaskResult | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    steps: Annotated[
        list[TaskStep] | None,
        Field(description="Only in the answer about a single task, and only of a type with steps."),
    ] = None


class TaskPage(ClosedAnswer):
    """Tasks, newest first."""

    items: list[Task]
    next: Annotated[str | None, Field(description="`cursor` of the page after; null at the end.")]


class StepError(ClosedAnswer):
    """Why a step was taken: a task's error, or what a task that was postponed waits for."""

    code: (
        ErrorCode
        | Literal["rate_limited", "at_capacity", "our_limit", "wrong_settings", "store_away", "no_room"]
    )
    message: str
    detail: Annotated[str, Field(description="All that the AI service said; for operators alone.")] = ""


class TaskEvent(ClosedAnswer):
    """A step in a task's history."""

    at: Time
    event: Literal[
        "submitted",
        "debited",
        "admitted",
        "rejected",
        "resumed",
        "claimed",
        "handed_off",
        "advanced",
        "attempt_failed",
        "retried",
        "postponed",
        "released",
        "completed",
        "failed",
        "cancelled",
        "refunded",
        "resubmitted",
    ]
    step: Annotated[str | None, Field(description="Of a type with steps, the step that it was at then.")]
    attempt: Annotated[int | None, Field(ge=0, description="Null for a movement of credits.")]
    lease: Annotated[int | None, Field(ge=0, description="The claim's number; it only grows.")]
    worker: Annotated[str | None, Field(description="The worker process that has, or had, the task.")]
    run_after: Annotated[Time | None, Field(description="Of a task that was put back: when it is due.")]
    error: StepError | None
    credits: Annotated[int | None, Field(description="Signed: debits are negative.")]


class OrderInput(ClosedAnswer):
    """An upload that a task was ordered with."""

    id: Id
    kind: Literal["images", "videos", "audio", "files"]
    url: Annotated[Path, Field(description="Signed; good for `FILE_LINK_SECONDS`.")]
    media_type: str
    name: str


class TaskOrder(ClosedAnswer):
    """What a task was ordered as."""

    type: str
    params: Annotated[dict[str, Any], Field(description="As they were given.")]
    inputs: Annotated[
        list[OrderInput], Field(description="The uploads among them that are still kept, in their order.")
    ]


class Share(ClosedAnswer):
    """A link to a work for others."""

    url: Annotated[str, Field(description="Whole, on the host that was asked.")]
    expires_at: Time


class ArchiveLink(ClosedAnswer):
    """A link to many works in one file."""

    url: Path
    works: Annotated[int, Field(ge=1, description="How many works are in it.")]
    expires_in: Annotated[int, Field(ge=1, description="Seconds.")]


class TaskHistory(ClosedAnswer):
    """What happened to a task, oldest first."""

    items: list[TaskEvent]


class Work(ClosedAnswer):
    """What the user sees of a task; the `doc` of the feed."""

    id_: Annotated[Id, Field(alias="_id")]
    task_id: Id
    user_openid: str
    type: str
    status: Status
    stage: str
    progress: Percent
    images: list[Picture]
    error: TaskError | None
    created_at: Time
    updated_at: Time
    files: OutputFiles = None
    data: OutputData = None
    data_url: DataUrl = None


class WorkPage(ClosedAnswer):
    """Works, newest first."""

    items: list[Work]
    next: Annotated[str | None, Field(description="`cursor` of the page after; null at the end.")]


class UpdatedFields(ClosedAnswer):
    """The members of `doc` that differ from before."""

    status: Status | None = None
    stage: str | None = None
    progress: Percent | None = None
    images: list[Picture] | None = None
    error: TaskError | None = None
    files: OutputFiles = None
    data: OutputData = None
    data_url: DataUrl = None


class DocChange(ClosedAnswer):
    """One change of one work."""

    id: Annotated[int, Field(ge=0, description="The user's seq: no gap, in the order of commits.")]
    dataType: Literal["init", "add", "update", "remove"]
    queueType: Literal["init", "enqueue", "update", "dequeue"]
    docId: Id
    doc: Annotated[Work, Field(description="After the change; of a `remove`, the last one.")]
    updatedFields: UpdatedFields | None = None


class Changes(ClosedAnswer):
    """What came after `since`; with `type`, everything there is."""

    id: Annotated[int, Field(ge=0, description="The user's seq up to which this tells everything.")]
    type: Annotated[
        Literal["init", "reset"] | None,
        Field(description="`init` without `since`; `reset` where `since` is unknown or no longer kept."),
    ] = None
    docChanges: list[DocChange]
    docs: Annotated[list[Work] | None, Field(description="With `type`: the newest 100 works.")] = None
    next: Annotated[str, Field(description="`since` of the next call, and an event id of the stream.")]


class FeedTicket(ClosedAnswer):
    """Leave to open one stream."""

    ticket: str
    expires_in: Annotated[int, Field(description="Seconds until its first use must have happened.")]


class IssuedToken(ClosedAnswer):
    """A user's token, for a page or an SDK."""

    token: str
    expires_in: Annotated[int, Field(description="Seconds until it ends.")]


class CreditEntry(ClosedAnswer):
    """A row of the ledger."""

    kind: Literal["grant", "debit", "refund"]
    amount: Annotated[int, Field(description="Signed: debits are negative.")]
    task_id: Id | None
    at: Time


class Credits(ClosedAnswer):
    """The balance and the newest entries."""

    balance: Annotated[int, Field(ge=0)]
    entries: list[CreditEntry]


Words = Annotated[dict[str, str], Field(description="{language: text}; empty where nobody gave any.")]
Bounds = Annotated[list[int], Field(min_length=2, max_length=2, description="[fewest, most].")]


class TypeInputs(ClosedAnswer):
    """How many inputs of each kind an order takes."""

    images: Bounds
    videos: Bounds
    audio: Bounds
    files: Bounds


class TypeSlot(ClosedAnswer):
    """What the input at a place shows, for forms."""

    name: str
    title: Words
    about: Words


class TypePrice(ClosedAnswer):
    """Credits of an order: base + ceil(credits × units × every `times` whose `where` matches)."""

    base: int
    per: Annotated[Literal["picture", "second", "task"], Field(description="What a unit is.")]
    credits: Annotated[float, Field(description="Of a unit.")]
    seconds: Annotated[str, Field(description="Of `second`: the parameter that says how many.")]
    by: Annotated[list[dict[str, Any]], Field(description="[{where: {parameter: value}, times}].")]


class TypeDeclaration(ClosedAnswer):
    """What a type takes, makes and costs."""

    type: str
    title: Words
    about: Words
    inputs: TypeInputs
    slots: list[TypeSlot]
    count: Annotated[Bounds, Field(description="[fewest, most] pictures of one order.")]
    scenes: Annotated[list[str], Field(description="What `sceneId` may be; empty where it may be any text.")]
    parameters: Annotated[
        dict[str, Any],
        Field(description="JSON Schema (2020-12) of `params.parameters`; `{}` where they may be anything."),
    ]
    outputs: list[Literal["images", "videos", "audio", "files", "json"]]
    steps: Annotated[list[str], Field(description="Names of its steps, in order; empty for one call.")]
    price: TypePrice


class Estimate(ClosedAnswer):
    """What an order would cost now, and when it would start."""

    credits: Annotated[int, Field(ge=0)]
    balance: Annotated[int, Field(ge=0, description="The user's; of a new user, the sign-up grant.")]
    queue_position: Annotated[int | None, Field(ge=0, description="0 is next.")]
    eta_seconds: Annotated[int | None, Field(ge=0, description="Null where nothing is known yet.")]


class Grant(ClosedAnswer):
    """Credits that a service gave a user."""

    user: str
    amount: Annotated[int, Field(ge=1)]
    reference: str
    balance: Annotated[int, Field(ge=0, description="Of the user, now.")]


class TypeList(ClosedAnswer):
    """Every type, in the order in which they are declared."""

    items: list[TypeDeclaration]


class Health(ClosedAnswer):
    """The process is well."""

    status: Literal["ok"]


class Ready(ClosedAnswer):
    """The process may be sent requests."""

    status: Literal["ready"]
    works: Annotated[
        bool,
        Field(description="Whether a task would be started: a dispatcher works, and workers take tasks."),
    ]


class Login(ClosedAnswer):
    """A user of the mini-program, proven to be one."""

    token: Annotated[str, Field(description="For `Authorization: Bearer`.")]
    expires_in: Annotated[int, Field(description="Seconds; then call `wx.login()` again.")]
    user_openid: Annotated[str, Field(description="The token's `sub`.")]


ANSWERS: tuple[type[BaseModel], ...] = (
    AcceptedTask,
    Task,
    TaskPage,
    TaskHistory,
    TaskOrder,
    Share,
    ArchiveLink,
    Work,
    WorkPage,
    Changes,
    DocChange,
    UploadedImage,
    UploadedFile,
    FeedTicket,
    IssuedToken,
    Login,
    Credits,
    Estimate,
    Grant,
    TypeList,
    Health,
    Ready,
    Problem,
)
