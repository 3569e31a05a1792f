"""A *lane*: what the pick and a worker need to know of the step that a task is at, as text in its row.  Pure.

A type without steps has one lane, '', which the settings describe.  A lane of a step describes itself, because the
steps of a task are fixed at its admission: other settings change no open task.  Equal steps make equal text, so
the pick finds the ready tasks of a lane by it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from config.settings import POLL_MARGIN_SECONDS, Settings

POLL_OF_UNKNOWN_SECONDS = 300.0  # for a type that no setting names any more


class Terms(Protocol):
    """What a lane, or a type without steps, says of an attempt."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the providers, the preferred one first."""

    @property
    def ai_timeout_seconds(self) -> float:
        """For one call of an AI service."""

    @property
    def time_limit_seconds(self) -> float:
        """For one attempt."""

    @property
    def remote_limit_seconds(self) -> float:
        """For a remote job, from its hand-off."""


@dataclasses.dataclass(frozen=True)
class Lane:
    """A step's number, the names of its providers in order, its needs, and its limits in seconds."""

    step: int
    chain: tuple[str, ...]
    needs: Mapping[str, int]
    ai_timeout_seconds: float
    time_limit_seconds: float
    remote_limit_seconds: float


def lane_of(steps: Sequence[Mapping[str, Any]] | None, step: int) -> str:
    """The lane of a step.  steps: as fixed in the row; None for a type without."""
    if steps is None:
        return ""
    told = {name: steps[step][name] for name in _TOLD}
    return json.dumps({"step": step, **told}, sort_keys=True, separators=(",", ":"))


@functools.lru_cache(maxsize=1024)
def read_lane(text: str) -> Lane:
    """The lane of this text, which is not ''."""
    told = json.loads(text)
    return Lane(**{**told, "chain": tuple(told["chain"])})


def terms_of(settings: Settings, type_: str, lane: str) -> Terms:
    """The terms of a task at a step.  A type that no setting names any more has none: KeyError."""
    return read_lane(lane) if lane else settings.tasks[type_]


def attempt_seconds(settings: Settings, type_: str, lane: str) -> float:
    """From the beginning of an attempt to its deadline."""
    return terms_of(settings, type_, lane).time_limit_seconds + settings.stuck_grace_seconds


def poll_seconds(settings: Settings, type_: str, lane: str) -> float:
    """How long a poll of a remote job may take, including the storing of its result."""
    if not lane and type_ not in settings.tasks:
        return POLL_OF_UNKNOWN_SECONDS
    return terms_of(settings, type_, lane).ai_timeout_seconds + POLL_MARGIN_SECONDS


_TOLD = [field.name for field in dataclasses.fields(Lane) if field.name != "step"]
