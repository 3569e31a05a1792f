"""Models of the operators' view of one user, of what admins do to users, and of actions on many tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from web.openapi.schemas import ClosedAnswer, Id, Status, Time


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
    reasons: Annotated[dict[str, int], Field(description="{sentence: number of tasks}, at most ten.")]
    created_at: Time
    updated_at: Time
    finished_at: Time | None


class OpsBulkActions(ClosedAnswer):
    """The newest twenty."""

    items: list[OpsBulkAction]


USER_ANSWERS: tuple[type[BaseModel], ...] = (
    OpsBlockedUsers, OpsBlock, OpsRevoked, OpsBulkPreview, OpsBulkAction, OpsBulkActions,
)  # fmt: skip
