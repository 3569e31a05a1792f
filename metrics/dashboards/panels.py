"""The dashboard, row by row: is it well, and if not, where to look."""

from __future__ import annotations

from metrics.dashboards.house_panels import FEED, MONEY, PROCESSES, SERVICES, WEBHOOKS
from metrics.dashboards.task_panels import HEALTHY, QUEUE, RUNNING

ROWS = (HEALTHY, QUEUE, RUNNING, SERVICES, FEED, WEBHOOKS, MONEY, PROCESSES)
