"""The dashboard, row by row: is it well, and if not, where to look."""

from __future__ import annotations

from metrics.monitoring.house_panels import FEED, MONEY, PROCESSES, SERVICES, WEBHOOKS
from metrics.monitoring.task_panels import HEALTHY, QUEUE, RUNNING

ROWS = (HEALTHY, QUEUE, RUNNING, SERVICES, FEED, WEBHOOKS, MONEY, PROCESSES)
