"""Rows that no program may delete yet: the conditions and sentences of guards on both databases."""

from __future__ import annotations

from config.storage import AUDIT_KEPT_DAYS

REMOTE_JOB_KEPT = "the evidence of paid requests is append-only until they and their tasks are over"
COSTS_KEPT = "what services said their work has cost is append-only"
AUDIT_KEPT = f"the record of what operators did is append-only, and kept for {AUDIT_KEPT_DAYS} days"


def must_keep_remote_job(row: str) -> str:
    """The condition that a request, or its task, has not ended."""
    return f"""({row}.state IN ('submitting','waiting') OR EXISTS
        (SELECT 1 FROM task_queue WHERE task_queue.id = {row}.task_id
         AND task_queue.status IN ('pending','processing','ai_processing')))"""
