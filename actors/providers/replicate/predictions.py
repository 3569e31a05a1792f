"""The meaning of an answer about a prediction.  Pure.

| status | the job |
|---|---|
| starting, processing | goes on; its progress is the last progress bar in its log |
| succeeded | is done; if `data_removed` says that its output was deleted, it is over without its pictures |
| failed | is over; the text of its error decides the class; provider_error if no list matches |
| canceled | is over: it was stopped there |
| aborted | never began within its deadline: it is ordered again |
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from actors.providers.base import Failed, ProviderError, ResultLost, Running, Transient, Unreadable
from actors.providers.common.answers import Answer, Rules, no_pictures
from actors.providers.common.paths import parse_path
from actors.providers.common.picture_sources import Source
from actors.providers.common.results import result_in

# A progress bar of tqdm: the rule of Replicate's own client.
_BAR = re.compile(r"^\s*(?P<percent>\d+)%\s*\|.+?\|\s*\d+/\d+", re.MULTILINE)
_WAIT = re.compile(r"resets in ~?(\d{1,6})\s*s")
LONGEST_LOG = 65_536
OUTPUT = parse_path("$.output")


def judge(answer: Answer, rules: Rules, *, now: float) -> Running | Failed | list[Source]:
    """Its state, from a good answer, or its pictures.

    Raises Unreadable for an answer that does not describe it.
    """
    document = answer.document if isinstance(answer.document, dict) else {}
    match document.get("status"):
        case "starting":
            return Running(stage="starting at the AI service")
        case "processing":
            return Running(percent(document.get("logs")), "running at the AI service")
        case "succeeded" if document.get("data_removed") and not document.get("output"):
            return Failed(
                ResultLost("The AI service has removed the pictures: it keeps them for a while only.")
            )
        case "succeeded":
            return result_in(answer, rules, now=now)
        case "failed":
            return Failed(no_pictures(answer, rules, now=now))
        case "canceled":
            return Failed(ProviderError("The job was cancelled at the AI service."))
        case "aborted":
            return Failed(Transient("The AI service did not begin the job in time."))
        case _:
            raise Unreadable("The AI service's answer says nothing of the job.")


def rules_for(rules: Rules, outputs: Collection[str]) -> Rules:
    """The place of the results of an order whose type returns these.

    A prediction has one output.  For films, sound or files, the places of pictures are read; for JSON, the output
    itself, unless the settings name a place.
    """
    wants_files = not set(outputs) <= {"images", "json"}
    return dataclasses.replace(
        rules,
        files=rules.files or (rules.result if wants_files else ()),
        result=() if wants_files or "images" not in outputs else rules.result,
        data=rules.data or (OUTPUT if "json" in outputs else None),
    )


def percent(logs: Any) -> int | None:
    """The last progress bar of a log."""
    if not isinstance(logs, str):
        return None
    bars = _BAR.findall(logs[-LONGEST_LOG:])
    return min(99, int(bars[-1])) if bars else None


def wait_told(document: Any) -> float | None:
    """Seconds to wait, if an error says it as text: `Your rate limit resets in ~30s.`"""
    detail = document.get("detail") if isinstance(document, dict) else None
    found = _WAIT.search(detail) if isinstance(detail, str) else None
    return float(found[1]) if found else None
