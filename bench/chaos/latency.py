"""How long work stood still: from a fault to the moment when each affected task ran again.

Read afterwards from the change log, with the database's times: nothing watches during the run.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from datetime import datetime

from bench.chaos.verdicts import Reader


@dataclasses.dataclass(frozen=True)
class Hit:
    """A blow to tasks that were running.  at: seconds since 1970.  kind: as the report shows it.

    alone: nothing else was amiss at that time.
    """

    kind: str
    at: float
    tasks: tuple[str, ...]
    alone: bool


@dataclasses.dataclass(frozen=True)
class Rescued:
    """One task that ran again."""

    kind: str
    seconds: float
    alone: bool


def rescues(reader: Reader, hits: Sequence[Hit]) -> list[Rescued]:
    """Every task that was hit and had to run again; those that had just finished are left out.

    So are those of low priority: they wait for their turn, after all others.
    """
    low = {row["id"] for row in reader.rows("SELECT id FROM task_queue WHERE priority < 0")}
    histories: dict[str, list[tuple[float, str]]] = {}
    for row in reader.rows("SELECT doc, created_at FROM work_change ORDER BY log_id"):
        doc = json.loads(row["doc"])
        moment = datetime.fromisoformat(row["created_at"]).timestamp()
        histories.setdefault(doc["task_id"], []).append((moment, doc["status"]))
    found = []
    for hit in hits:
        for task in (task for task in hit.tasks if task not in low):
            seconds = _until_running_again(histories.get(task, []), hit.at)
            if seconds is not None:
                found.append(Rescued(hit.kind, seconds, hit.alone))
    return found


def _until_running_again(history: list[tuple[float, str]], at: float) -> float | None:
    put_back = False
    for moment, status in history:
        if moment < at:
            continue
        if status == "pending":
            put_back = True
        elif not put_back and status in ("completed", "failed"):
            return None  # it was over before the blow was felt
        elif put_back and status == "processing":
            return moment - at
        elif put_back:
            return None  # given up
    return None


def summary(sample: Sequence[float]) -> str:
    """`n  p50  p90  max`, in seconds."""
    if not sample:
        return "none"
    if len(sample) == 1:
        return f"1 task: {sample[0]:.2f} s"
    p90 = statistics.quantiles(sample, n=10, method="inclusive")[8]
    return f"{len(sample)} tasks: p50 {statistics.median(sample):.2f} s  p90 {p90:.2f} s  max {max(sample):.2f} s"
