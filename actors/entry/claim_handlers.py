"""The work for claims: it is passed to the worker, which itself knows neither attempts nor polls."""

from __future__ import annotations

from actors.attempts.attempt import run_attempt
from actors.remote_jobs.poll_batch import poll_tasks
from actors.worker.worker import Work

WORK = Work(attempt=run_attempt, polls=poll_tasks)
