"""What Darkroom answers, as frozen values.  Members that are not named here are in `raw`: answers may grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

Json = Mapping[str, Any]
Status = Literal["pending", "processing", "ai_processing", "completed", "failed", "cancelled"]
FINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class Upload:
    """A stored input.  Its id may be used in any number of orders of the same user."""

    id: str
    url: str
    bytes: int
    name: str
    media_type: str
    width: int | None
    height: int | None


@dataclass(frozen=True)
class Picture:
    """A finished picture.  url: whole and signed; it expires.  thumbnail: of a small WebP, None where there is none."""

    url: str
    width: int
    height: int
    thumbnail: str | None


@dataclass(frozen=True)
class OutputFile:
    """A finished film, sound or other file."""

    url: str
    media_type: str
    bytes: int
    name: str


@dataclass(frozen=True)
class TaskError:
    """Why a task failed.  message: a sentence for its user."""

    code: str
    message: str


@dataclass(frozen=True)
class Order:
    """A task as it was accepted: stored, paid and in line.

    queue_position: 0 is next.  is_replay: an earlier request with the same key has made the task.  key: the
    `Idempotency-Key` of the request.
    """

    task_id: str
    work_id: str | None
    status: Status
    queue_position: int | None
    is_replay: bool
    key: str


@dataclass(frozen=True)
class TaskStep:
    """A step of a task whose type has steps.  status: waiting, running, done, resumed (its results are of an earlier
    run), failed or cancelled.  run_seconds: of the attempt that ended it.  cost: {unit: amount} that AI services
    reported.  images: of a step whose files are kept."""

    name: str
    status: str
    progress: int
    run_seconds: float | None
    cost: Mapping[str, str]
    images: tuple[Picture, ...]


@dataclass(frozen=True)
class Task:
    """A task as it is now.  progress: 0 to 100.  eta_seconds: None where nothing is known.  steps: of a single task
    that was asked for, if its type has steps."""

    task_id: str
    work_id: str | None
    type: str
    status: Status
    stage: str
    progress: int
    queue_position: int | None
    eta_seconds: int | None
    attempt: int
    max_attempts: int
    error: TaskError | None
    images: tuple[Picture, ...]
    files: tuple[OutputFile, ...]
    data: Any
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    raw: Json = field(repr=False, compare=False)
    steps: tuple[TaskStep, ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True)
class Work:
    """What the user sees of a task."""

    id: str
    task_id: str
    user: str
    type: str
    status: Status
    stage: str
    progress: int
    images: tuple[Picture, ...]
    files: tuple[OutputFile, ...]
    data: Any
    error: TaskError | None
    created_at: datetime
    updated_at: datetime
    raw: Json = field(repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True)
class Event:
    """Something that has happened to a user's works.

    kind: "init" and "reset" bring the newest 100 works in `works`: forget what you knew.  "add", "update" and "remove"
    bring the one work that changed; of a "remove", as it was.  place: how far one has read now; `watch(since=place)`
    goes on from there, also in another process.
    """

    kind: Literal["init", "reset", "add", "update", "remove"]
    place: str
    works: tuple[Work, ...]

    @property
    def work(self) -> Work:
        """The work that changed.  Raises ValueError for "init" and "reset"."""
        (only,) = self.works
        return only


@dataclass(frozen=True)
class Estimate:
    """What an order would cost now, and when it would start."""

    credits: int
    balance: int
    queue_position: int | None
    eta_seconds: int | None


@dataclass(frozen=True)
class CreditEntry:
    """A movement of credits.  amount: a debit is negative."""

    kind: Literal["grant", "debit", "refund"]
    amount: int
    task_id: str | None
    at: datetime


@dataclass(frozen=True)
class Credits:
    """The balance and the newest entries of the ledger."""

    balance: int
    entries: tuple[CreditEntry, ...]


@dataclass(frozen=True)
class IssuedToken:
    """A token of one user.  expires_in: seconds."""

    token: str
    expires_in: int


# --- from JSON; each raises KeyError, TypeError or ValueError for anything else ---


def time_of(text: str) -> datetime:
    """RFC 3339 in UTC, which Python 3.10 reads only without its Z."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else time_of(text)


def whole(base: str, link: str) -> str:
    """A link as it can be fetched.  base: the server's address."""
    return base + link if link.startswith("/") else link


def upload_of(told: Json, base: str) -> Upload:
    return Upload(
        id=told["id"],
        url=whole(base, told["url"]),
        bytes=told["bytes"],
        name=told.get("name", ""),
        media_type=told.get("media_type", ""),
        width=told.get("width"),
        height=told.get("height"),
    )


def _picture_of(told: Json, base: str) -> Picture:
    small = told.get("thumbnail")
    return Picture(
        whole(base, told["url"]), told["width"], told["height"], whole(base, small["url"]) if small else None
    )


def _file_of(told: Json, base: str) -> OutputFile:
    return OutputFile(whole(base, told["url"]), told["media_type"], told["bytes"], told["name"])


def _outputs_of(told: Json, base: str) -> tuple[tuple[Picture, ...], tuple[OutputFile, ...]]:
    images = tuple(_picture_of(each, base) for each in told.get("images") or ())
    return images, tuple(_file_of(each, base) for each in told.get("files") or ())


def _error_of(told: Json | None) -> TaskError | None:
    return None if told is None else TaskError(told["code"], told["message"])


def order_of(told: Json, *, is_replay: bool, key: str) -> Order:
    return Order(told["task_id"], told["work_id"], told["status"], told.get("queue_position"), is_replay, key)


def task_of(told: Json, base: str) -> Task:
    result = told["result"] or {}
    images, files = _outputs_of(result, base)
    return Task(
        task_id=told["task_id"],
        work_id=told["work_id"],
        type=told["type"],
        status=told["status"],
        stage=told["stage"],
        progress=told["progress"],
        queue_position=told["queue_position"],
        eta_seconds=told["eta_seconds"],
        attempt=told["attempt"],
        max_attempts=told["max_attempts"],
        error=_error_of(told["error"]),
        images=images,
        files=files,
        data=result.get("data"),
        created_at=time_of(told["created_at"]),
        started_at=_time_or_none(told["started_at"]),
        finished_at=_time_or_none(told["finished_at"]),
        raw=told,
        steps=tuple(_step_of(each, base) for each in told.get("steps") or ()),
    )


def _step_of(told: Json, base: str) -> TaskStep:
    images, _ = _outputs_of(told, base)
    return TaskStep(told["name"], told["status"], told["progress"], told["run_seconds"], told["cost"], images)


def work_of(told: Json, base: str) -> Work:
    images, files = _outputs_of(told, base)
    return Work(
        id=told["_id"],
        task_id=told["task_id"],
        user=told["user_openid"],
        type=told["type"],
        status=told["status"],
        stage=told["stage"],
        progress=told["progress"],
        images=images,
        files=files,
        data=told.get("data"),
        error=_error_of(told["error"]),
        created_at=time_of(told["created_at"]),
        updated_at=time_of(told["updated_at"]),
        raw=told,
    )


def event_of(kind: str, place: str, told: Json, base: str) -> Event:
    """kind: the event's name in the stream."""
    if kind == "change":
        (change,) = told["docChanges"]
        name = cast(Literal["add", "update", "remove"], change["dataType"])
        return Event(name, place, (work_of(change["doc"], base),))
    works = tuple(work_of(each, base) for each in told["docs"])
    return Event(cast(Literal["init", "reset"], kind), place, works)


def estimate_of(told: Json) -> Estimate:
    return Estimate(told["credits"], told["balance"], told["queue_position"], told["eta_seconds"])


def credits_of(told: Json) -> Credits:
    entries = (
        CreditEntry(each["kind"], each["amount"], each["task_id"], time_of(each["at"]))
        for each in told["entries"]
    )
    return Credits(told["balance"], tuple(entries))


def token_of(told: Json) -> IssuedToken:
    return IssuedToken(told["token"], told["expires_in"])
