"""The rows of the dashboard about tasks: is it well, what waits, what runs."""

from __future__ import annotations

from metrics.monitoring.expressions import JOB, TYPE, living, quantile, told
from metrics.monitoring.recordings import FAILED_SHARE, FINISHED, RUN_BUCKETS, WAIT_BUCKETS
from metrics.monitoring.shapes import Panel, Query, Row

HEALTHY = Row(
    "Is it healthy?",
    (
        Panel(
            "Web processes up",
            "Scraped and answering.",
            (Query(f"sum(up{{{JOB}}})"),),
            kind="stat",
            width=3,
            red=1,
            red_below=True,
        ),
        Panel(
            "Database",
            "1 while every web process can read it.",
            (Query(f"min(darkroom_database_up{{{JOB}}})"),),
            kind="stat",
            width=3,
            red=1,
            red_below=True,
        ),
        Panel(
            "Broker",
            "1 while it answers every web process.",
            (Query(f"min(darkroom_broker_up{{{JOB}}})"),),
            kind="stat",
            width=3,
            red=1,
            red_below=True,
        ),
        Panel(
            "Feeds hear of changes",
            "1 while every web process does.",
            (Query(f"min(darkroom_listener_up{{{JOB}}})"),),
            kind="stat",
            width=3,
            red=1,
            red_below=True,
        ),
        Panel(
            "Live workers",
            "Processes that take tasks and show that they live.",
            (Query(f'max(darkroom_workers{{{JOB},state="live"}})'),),
            kind="stat",
            width=3,
            red=1,
            red_below=True,
        ),
        Panel(
            "Dispatcher's last beat",
            "Some tenths of a second while one works.",
            (Query(f"min(darkroom_dispatcher_beat_seconds{{{JOB}}})"),),
            unit="s",
            kind="stat",
            width=3,
            red=10,
        ),
        Panel(
            "Stuck tasks",
            "What the next rescue would take; 0 but for moments.",
            (Query(f"sum({told('darkroom_stuck_tasks', 'reason')})"),),
            kind="stat",
            width=3,
            red=1,
        ),
        Panel(
            "Oldest waiting",
            "Of all types, since it was due.",
            (Query(f"max(darkroom_oldest_pending_seconds{{{TYPE}}})"),),
            unit="s",
            kind="stat",
            width=3,
            red=300,
        ),
        Panel(
            "Since the last sweep",
            "One a minute is usual.",
            (Query(f"time() - max(darkroom_last_sweep_timestamp_seconds{{{JOB}}})"),),
            unit="s",
            kind="stat",
            width=3,
            red=180,
        ),
    ),
)
QUEUE = Row(
    "Queue",
    (
        Panel(
            "Waiting and due",
            "Tasks that could begin if a slot were free.",
            (Query(living(told("darkroom_queue_depth", "type", TYPE)), "{{type}}"),),
        ),
        Panel(
            "Oldest waiting",
            "How long the task that has waited longest has been due.",
            (Query(told("darkroom_oldest_pending_seconds", "type", TYPE), "{{type}}"),),
            unit="s",
        ),
        Panel(
            "Offers",
            "What workers offer to types that need it: free, held, and what waiting tasks need of it.",
            (
                Query(living(told("darkroom_offers", "name, state")), "{{name}} {{state}}"),
                Query(living(told("darkroom_needed", "name")), "{{name}} needed"),
            ),
        ),
        Panel(
            "Waiting for what is offered",
            "How long the oldest task waits that needs it; and tasks of types that no worker takes.",
            (
                Query(told("darkroom_needed_oldest_pending_seconds", "name"), "{{name}}, seconds"),
                Query(
                    living(told("darkroom_unplaceable_tasks", "type", TYPE)), "{{type}}, tasks nobody takes"
                ),
            ),
        ),
        Panel(
            "Stuck",
            "What the next rescue would take, by reason.",
            (Query(living(told("darkroom_stuck_tasks", "reason")), "{{reason}}"),),
        ),
        Panel(
            "Wait until the first start",
            "From being due to the first claim.",
            (
                Query(living(quantile(0.5, WAIT_BUCKETS.record, "type", TYPE)), "{{type}} p50"),
                Query(living(quantile(0.95, WAIT_BUCKETS.record, "type", TYPE)), "{{type}} p95"),
            ),
            unit="s",
        ),
        Panel(
            "Dispatch lag",
            "From being due to the claim, where a slot was free: the dispatcher's own share of the wait.",
            (
                Query(
                    f"histogram_quantile(0.5, max by (le)"
                    f" (rate(darkroom_dispatch_lag_seconds_bucket{{{JOB}}}[<5m>])))",
                    "p50",
                ),
                Query(
                    f"histogram_quantile(0.95, max by (le)"
                    f" (rate(darkroom_dispatch_lag_seconds_bucket{{{JOB}}}[<5m>])))",
                    "p95",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Open tasks",
            "By status.",
            (Query(f"sum by (status) ({told('darkroom_tasks', 'type, status', TYPE)})", "{{status}}"),),
        ),
    ),
)
RUNNING = Row(
    "Running",
    (
        Panel(
            "Running",
            "Processing or with an AI service.",
            (Query(living(told("darkroom_running_tasks", "type", TYPE)), "{{type}}"),),
        ),
        Panel("Slots", "Of present workers.", (Query(told("darkroom_worker_slots", "state"), "{{state}}"),)),
        Panel(
            "Workers",
            "Processes by state; silent ones show no heartbeat, dead ones still hold tasks.",
            (
                Query(told("darkroom_workers", "state"), "{{state}}"),
                Query(f"max(darkroom_silent_workers{{{JOB}}})", "silent"),
            ),
        ),
        Panel(
            "Last heartbeats",
            "Of the worker with the newest heartbeat, and with the oldest; each beats every HEARTBEAT_SECONDS.",
            (Query(told("darkroom_worker_beat_seconds", "worker"), "{{worker}}"),),
            unit="s",
        ),
        Panel(
            "Finished a minute",
            "By outcome.",
            (Query(living(f"60 * sum by (outcome) ({FINISHED.record}{{{TYPE}}})"), "{{outcome}}"),),
        ),
        Panel(
            "Attempts that fail",
            "Of those that ended, over ten minutes; tried again or not, free or not.",
            (Query(living(f"{FAILED_SHARE.record}{{{TYPE}}}"), "{{type}}"),),
            unit="percentunit",
        ),
        Panel(
            "Nothing new for",
            "Of the running task that has shown nothing new for longest.",
            (Query(told("darkroom_unmoved_seconds", "status"), "{{status}}"),),
            unit="s",
        ),
        Panel(
            "Deadly tasks",
            "Open ones under which workers have died at least twice; `/ops` names them.",
            (Query(f"max(darkroom_deadly_tasks{{{JOB}}})", "tasks"),),
        ),
        Panel(
            "Run time",
            "From a claim to the end of that attempt.",
            (
                Query(living(quantile(0.5, RUN_BUCKETS.record, "type", TYPE)), "{{type}} p50"),
                Query(living(quantile(0.95, RUN_BUCKETS.record, "type", TYPE)), "{{type}} p95"),
            ),
            unit="s",
        ),
        Panel(
            "Rescued a minute",
            "By why and what became of them.",
            (
                Query(
                    living(f"60 * max by (reason, action) (rate(darkroom_rescues_total{{{JOB}}}[<5m>]))"),
                    "{{reason}} {{action}}",
                ),
            ),
        ),
        Panel(
            "Unsigned claims a minute",
            "Messages in a worker's list that no key of ours has signed: another program writes to the broker.",
            (Query(f"60 * max(rate(darkroom_claims_refused_total{{{JOB}}}[<5m>]))", "refused"),),
        ),
    ),
)
