"""The meaning of a service's answer, or report, about a remote job.  Pure.

| the answer | the job |
|---|---|
| a status that `map`, or else USUAL_WORDS, calls queued or running, or an HTTP status of `pending_http` | goes on |
| done; or pictures, where no status is looked for | is over: its pictures are wanted |
| failed | is over, with the class that the lists of `error` give its code, else provider_error |
| cancelled | is over: it was stopped at the service |
| lost; HTTP 404 or 410 | is unknown there: counts after three times in a row |
| 200-299 that can't be understood, such as an unknown status | the same; its text then ends the job |
| a wrong key, too many polls, a server error | unknown; polled again |

`common/results.py` judges the answer with a finished job's result.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.providers.base import (
    Failed,
    Lost,
    Postponed,
    ProviderError,
    Running,
    Transient,
    Unreadable,
)
from actors.providers.common.answers import (
    Answer,
    Rules,
    error_in,
    names_no_error,
    no_pictures,
    pictures_in,
    plain_words,
    question_error_in,
)
from actors.providers.common.paths import Path

STATES = ("queued", "running", "done", "failed", "cancelled", "lost")
# Usual words of services, for statuses that `map` does not name: lower case, letters only.
_WORDS = {
    "queued": "queued inqueue pending waiting scheduled created submitted accepted notstarted starting suspended",
    "running": "running started processing inprogress progress working generating active executing uploading loading",
    "done": "done ready succeeded success successful completed complete finished",
    "failed": "failed failure error errored timeout timedout rejected",
    "cancelled": "cancelled canceled aborted revoked terminated stopped",
}
USUAL_WORDS = {word: state for state, words in _WORDS.items() for word in words.split()}
_STAGES = {"queued": "queued at the AI service", "running": "running at the AI service"}
_GONE = frozenset({404, 410})


class Verdict(enum.Enum):
    """The job is done."""

    DONE = "done"


@dataclass(frozen=True)
class JobRules:
    """The paths in an answer about a job.  states: {the service's word: one of STATES}.

    progress: a number from 0 to progress_of.  pending: HTTP statuses that mean that the job goes on.
    """

    status: Path | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    pending: frozenset[int] = frozenset()
    progress: Path | None = None
    progress_of: float = 100.0


def judge(answer: Answer, job: JobRules, rules: Rules, *, now: float) -> Running | Failed | Verdict:
    """The state of the job.  Raises Transient, Unreadable or Postponed if the answer does not show it."""
    if answer.status in job.pending:
        return _running(answer.document, job, "running")
    if not 200 <= answer.status < 300:
        return _refused(answer, rules, now)
    word = _word(answer.document, job)
    state = _state(word, job) if word is not None else ""
    if word is not None and not state:
        known = ", ".join(sorted(job.states)) or "no word"
        raise Unreadable(f"The AI service calls the job {_quoted(word, rules)}, and `map` names {known}.")
    match state:
        case "queued" | "running":
            return _running(answer.document, job, state)
        case "failed":
            return Failed(no_pictures(answer, rules, now=now))
        case "cancelled":
            return Failed(ProviderError("The job was cancelled at the AI service."))
        case "lost":
            return Failed(Lost("The AI service does not know the job any more."))
        case "done":
            error = error_in(answer, rules, now=now)
            return Failed(error) if error is not None else Verdict.DONE
        case _:
            return _without_a_word(answer, rules, now)


def _without_a_word(answer: Answer, rules: Rules, now: float) -> Failed | Verdict:
    """A good answer without a status: the result itself, an error's code, or an answer of a proxy."""
    try:
        pictures_in(answer, rules, now=now)
        return Verdict.DONE
    except ProviderError as error:
        if type(error) is ProviderError:
            unclear = "The AI service's answer about the job can't be understood."
            raise Unreadable(unclear if names_no_error(answer, rules) else error.message) from None
        if isinstance(error, Transient | Postponed):
            raise
        return Failed(error)


def _refused(answer: Answer, rules: Rules, now: float) -> Failed:
    error = question_error_in(answer, rules, now=now)
    if isinstance(error, Transient | Postponed) and answer.status not in _GONE:
        raise error
    if answer.status in _GONE:
        return Failed(Lost("The AI service does not know the job any more."))
    return Failed(error or ProviderError(f"The AI service says nothing of the job (HTTP {answer.status})."))


def _state(word: str, job: JobRules) -> str:
    return job.states.get(word) or USUAL_WORDS.get(re.sub(r"[^a-z]", "", word.lower()), "")


def _quoted(word: str, rules: Rules) -> str:
    return repr(plain_words(word, rules.hide, 60))


def _word(document: Any, job: JobRules) -> str | None:
    found = job.status.find(document) if job.status is not None else []
    return str(found[0]) if found and isinstance(found[0], str | int | float) else None


def _running(document: Any, job: JobRules, state: str) -> Running:
    return Running(progress=_percent(document, job), stage=_STAGES[state])


def _percent(document: Any, job: JobRules) -> int | None:
    found = job.progress.find(document) if job.progress is not None else []
    try:
        value = float(str(found[0]).strip().rstrip("%")) / job.progress_of * 100 if found else math.nan
    except ValueError:
        return None
    return int(min(99.0, max(0.0, value))) if math.isfinite(value) else None
