"""Recording rules: rates and ratios that several panels and alerts share.

Names follow Prometheus' convention: remaining labels, metric, operation.
"""

from __future__ import annotations

from metrics.monitoring.shapes import Recording

FINISHED = Recording(
    "job_type_outcome:darkroom_tasks_finished:rate5m",
    "max by (job, type, outcome) (rate(darkroom_tasks_finished_total[<5m>]))",
)
WAIT_BUCKETS = Recording(
    "job_type_le:darkroom_task_wait_seconds_bucket:rate5m",
    "max by (job, type, le) (rate(darkroom_task_wait_seconds_bucket[<5m>]))",
)
RUN_BUCKETS = Recording(
    "job_type_le:darkroom_task_run_seconds_bucket:rate5m",
    "sum by (job, type, le) (max by (job, type, outcome, le) (rate(darkroom_task_run_seconds_bucket[<5m>])))",
)
CALL_BUCKETS = Recording(
    "job_provider_le:darkroom_ai_call_seconds_bucket:rate5m",
    "sum by (job, provider, le) (max by (job, provider, outcome, le) (rate(darkroom_ai_call_seconds_bucket[<5m>])))",
)
FEED_P99 = Recording(
    "job:darkroom_feed_delivery_seconds:p99_5m",
    "histogram_quantile(0.99, sum by (job, le) (rate(darkroom_feed_delivery_seconds_bucket[<5m>])))",
)
_ENDED = (
    "sum by (job, type) (max by (job, type, outcome)"
    ' (increase(darkroom_task_run_seconds_count{{outcome=~"{}"}}[<{}>])))'
)


def _failed(window: str) -> str:
    """Failed attempts, also those that are tried again, and of free types; rejected orders do not count."""
    return _ENDED.format("failed|retried", window)


def _failed_share(window: str) -> str:
    return f"{_failed(window)} / ({_ENDED.format('failed|retried|completed', window)} > 0)"


FAILED = Recording("job_type:darkroom_attempts_failed:increase10m", _failed("10m"))
FAILED_SHARE = Recording("job_type:darkroom_attempts_failed:ratio10m", _failed_share("10m"))
FAILED_1H = Recording("job_type:darkroom_attempts_failed:increase1h", _failed("1h"))
FAILED_SHARE_1H = Recording("job_type:darkroom_attempts_failed:ratio1h", _failed_share("1h"))
REFUNDED_SHARE = Recording(
    "job:darkroom_refunds_per_finished:ratio15m",
    "max by (job) (increase(darkroom_refunds_total[<15m>]))"
    " / (sum by (job) (max by (job, type, outcome) (increase(darkroom_tasks_finished_total[<15m>]))) > 0)",
)

RECORDINGS = (
    FINISHED, WAIT_BUCKETS, RUN_BUCKETS, CALL_BUCKETS, FEED_P99, FAILED, FAILED_SHARE, FAILED_1H, FAILED_SHARE_1H,
    REFUNDED_SHARE,
)  # fmt: skip
