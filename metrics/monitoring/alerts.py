"""The alerts: each means that a fault affects users, or soon will, and does not pass by itself.

A fault that passes by itself (a killed worker, a lost message, one failed call) is no alert, unless it does not pass in
time.  Each has its section in docs/operating.md.
"""

from __future__ import annotations

from metrics.monitoring.recordings import FAILED, FAILED_1H, FAILED_SHARE, FAILED_SHARE_1H, FEED_P99
from metrics.monitoring.shapes import Alert

_PUT_BACK = (
    "sum by (job, type) (max by (job, type, reason)"
    ' (increase(darkroom_postponed_total{reason=~"rate_limited|at_capacity"}[<10m>])))'
)
_RUN = 'max by (job, type) (increase(darkroom_task_run_seconds_count{outcome="completed"}[<10m>]))'
_BUCKET = 'sum by (job) (increase(darkroom_feed_delivery_seconds_bucket{{le="{}"}}[<5m>]))'
_SLOW = f"({_BUCKET.format('+Inf')} - {_BUCKET.format('2.0')})"
_WEB = 'job="darkroom",instance="web-1"'

ALERTS = (
    Alert(
        "DarkroomDown",
        'up{job="darkroom"} == 0 or absent(up{job="darkroom"})',
        "1m",
        "page",
        "Prometheus can't reach the web process {{ $labels.instance }}.",
        healthy={f"up{{{_WEB}}}": "1x60"},
        faulty={f"up{{{_WEB}}}": "1x10 0x50"},
        labels={"job": "darkroom", "instance": "web-1"},
        told="Prometheus can't reach the web process web-1.",
    ),
    Alert(
        "DarkroomDatabaseDown",
        "darkroom_database_up == 0",
        "1m",
        "page",
        "The web process {{ $labels.instance }} can't read the database.",
        healthy={f"darkroom_database_up{{{_WEB}}}": "1x60"},
        faulty={f"darkroom_database_up{{{_WEB}}}": "1x10 0x50"},
        labels={"job": "darkroom", "instance": "web-1"},
        told="The web process web-1 can't read the database.",
    ),
    Alert(
        "DarkroomBrokerDown",
        "darkroom_broker_up == 0",
        "1m",
        "page",
        "The broker does not answer {{ $labels.instance }}: tasks are accepted and none is started.",
        healthy={f"darkroom_broker_up{{{_WEB}}}": "1x60"},
        faulty={f"darkroom_broker_up{{{_WEB}}}": "1x10 0x50"},
        labels={"job": "darkroom", "instance": "web-1"},
        told="The broker does not answer web-1: tasks are accepted and none is started.",
    ),
    Alert(
        "DarkroomNoWorkers",
        # A draining worker ends soon, and its successor begins; a new worker has not beaten yet.
        'max by (job) (darkroom_workers{state="live"}) == 0'
        ' unless max by (job) (darkroom_workers{state="draining"}) > 0',
        "15s",
        "page",
        "No worker takes tasks.",
        healthy={f'darkroom_workers{{{_WEB},state="live"}}': "2x60"},
        faulty={f'darkroom_workers{{{_WEB},state="live"}}': "2x10 0x50"},
        labels={"job": "darkroom"},
        told="No worker takes tasks.",
    ),
    Alert(
        "DarkroomNoWorkerForType",
        "max by (job, type) (darkroom_unplaceable_tasks) > 0",
        "2m",  # a host with a GPU that is started on demand takes its time
        "page",
        "{{ $value }} {{ $labels.type }} tasks wait, and no worker that lives takes this type.",
        healthy={f'darkroom_unplaceable_tasks{{{_WEB},type="flux"}}': "0x20 3 0x39"},
        faulty={f'darkroom_unplaceable_tasks{{{_WEB},type="flux"}}': "0x10 3x50"},
        labels={"job": "darkroom", "type": "flux"},
        told="3 flux tasks wait, and no worker that lives takes this type.",
    ),
    Alert(
        "DarkroomDispatcherSilent",
        "min by (job) (darkroom_dispatcher_beat_seconds) > 10",
        "15s",
        "page",
        "The dispatcher has shown no beat for {{ $value | humanizeDuration }}: no task is started.",
        healthy={f"darkroom_dispatcher_beat_seconds{{{_WEB}}}": "0.2x20 6 0.1x39"},
        faulty={f"darkroom_dispatcher_beat_seconds{{{_WEB}}}": "0.2x10 60+60x50"},
        labels={"job": "darkroom"},
        told="The dispatcher has shown no beat for 20m 0s: no task is started.",
    ),
    Alert(
        "DarkroomQueueOld",
        "max by (job, type) (darkroom_oldest_pending_seconds) > <300>",
        "1m",
        "ticket",
        "A {{ $labels.type }} task has been due for {{ $value | humanizeDuration }} and has not begun.",
        healthy={f'darkroom_oldest_pending_seconds{{{_WEB},type="fitting"}}': "0 20 0 240 0x56"},
        faulty={f'darkroom_oldest_pending_seconds{{{_WEB},type="fitting"}}': "0+60x60"},
        labels={"job": "darkroom", "type": "fitting"},
        told="A fitting task has been due for 30m 0s and has not begun.",
    ),
    Alert(
        "DarkroomStuckTasks",
        "max by (job, reason) (darkroom_stuck_tasks) > 0",
        "3m",
        "page",
        "{{ $value }} tasks are stuck ({{ $labels.reason }}) and no sweep rescues them:"
        " `darkroom tasks --stuck` names them, `darkroom sweep` rescues them now.",
        # Tasks that the dispatcher or the minute sweep rescues are gone at the next evaluation, or at the one after.
        healthy={f'darkroom_stuck_tasks{{{_WEB},reason="dead_worker"}}': "0x5 3 3 0x54"},
        faulty={f'darkroom_stuck_tasks{{{_WEB},reason="dead_worker"}}': "0x5 1+1x55"},
        labels={"job": "darkroom", "reason": "dead_worker"},
        told="25 tasks are stuck (dead_worker) and no sweep rescues them:"
        " `darkroom tasks --stuck` names them, `darkroom sweep` rescues them now.",
    ),
    Alert(
        "DarkroomSweepSilent",
        "time() - max by (job) (darkroom_last_sweep_timestamp_seconds) > 180",
        "2m",
        "ticket",
        "The minute's sweep has not ended for {{ $value | humanizeDuration }}.",
        healthy={f"darkroom_last_sweep_timestamp_seconds{{{_WEB}}}": "0+60x60"},
        faulty={f"darkroom_last_sweep_timestamp_seconds{{{_WEB}}}": "0+60x10 600x50"},
        labels={"job": "darkroom"},
        told="The minute's sweep has not ended for 20m 0s.",
    ),
    Alert(
        "DarkroomListenerDown",
        "darkroom_listener_up == 0",
        "1m",
        "page",
        "The web process {{ $labels.instance }} gets no notifications of changes: its feeds stand still.",
        healthy={f"darkroom_listener_up{{{_WEB}}}": "1x60"},
        faulty={f"darkroom_listener_up{{{_WEB}}}": "1x10 0x50"},
        labels={"job": "darkroom", "instance": "web-1"},
        told="The web process web-1 gets no notifications of changes: its feeds stand still.",
    ),
    Alert(
        "DarkroomFeedLag",
        f"{FEED_P99.record} > 2 and {_SLOW} > 3",  # at night a single slow change is more than a hundredth
        "2m",
        "ticket",
        "One change in a hundred reaches its feed only after {{ $value | humanizeDuration }}.",
        healthy={
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="0.25"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="2.0"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="5.0"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="+Inf"}}': "0+60x60",
        },
        faulty={
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="0.25"}}': "0+30x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="2.0"}}': "0+30x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="5.0"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="+Inf"}}': "0+60x60",
        },
        labels={"job": "darkroom"},
        told="One change in a hundred reaches its feed only after 4.94s.",
    ),
    Alert(
        "DarkroomBreakerOpen",
        # Probes count too: while single requests are let through, the service is still down.
        "max by (job, provider) (darkroom_breaker_open_seconds) > <45>",
        "15s",
        "page",
        "The AI service {{ $labels.provider }} has been down for {{ $value | humanizeDuration }}; its tasks wait.",
        healthy={f'darkroom_breaker_open_seconds{{{_WEB},provider="retouch"}}': "0x20 15 0x39"},
        faulty={f'darkroom_breaker_open_seconds{{{_WEB},provider="retouch"}}': "0x10 60+60x50"},
        labels={"job": "darkroom", "provider": "retouch"},
        told="The AI service retouch has been down for 20m 0s; its tasks wait.",
    ),
    Alert(
        "DarkroomRateLimited",
        f"{_PUT_BACK} > 20 and {_PUT_BACK} > {_RUN}",
        "5m",
        "ticket",
        "The service of {{ $labels.type }} refused {{ $value | humanize }} requests in 10 minutes, more than it took.",
        healthy={
            f'darkroom_postponed_total{{{_WEB},type="fitting",reason="rate_limited"}}': "0+4x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="completed"}}': "0+9x60",
        },
        faulty={
            f'darkroom_postponed_total{{{_WEB},type="fitting",reason="rate_limited"}}': "0+20x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="completed"}}': "0+2x60",
        },
        labels={"job": "darkroom", "type": "fitting"},
        told="The service of fitting refused 200 requests in 10 minutes, more than it took.",
    ),
    Alert(
        "DarkroomTaskUnmoved",
        'max by (job, status) (darkroom_unmoved_seconds{status="processing"}) > <600>'
        ' or max by (job, status) (darkroom_unmoved_seconds{status="ai_processing"}) > <1800>',
        "1m",
        "ticket",
        "A task ({{ $labels.status }}) has shown nothing new for {{ $value | humanizeDuration }}.",
        healthy={
            f'darkroom_unmoved_seconds{{{_WEB},status="processing"}}': "0+60x9 0x50",
            f'darkroom_unmoved_seconds{{{_WEB},status="ai_processing"}}': "0+60x29 0x30",
        },
        faulty={
            f'darkroom_unmoved_seconds{{{_WEB},status="processing"}}': "0x60",
            f'darkroom_unmoved_seconds{{{_WEB},status="ai_processing"}}': "180+60x60",
        },
        labels={"job": "darkroom", "status": "ai_processing"},
        told="A task (ai_processing) has shown nothing new for 33m 0s.",
    ),
    Alert(
        "DarkroomDeadlyTask",
        "max by (job) (darkroom_deadly_tasks) > 0",
        "1m",
        "ticket",
        "Workers die again and again under {{ $value }} tasks: `/ops` and `darkroom doctor` name them.",
        healthy={f"darkroom_deadly_tasks{{{_WEB}}}": "0x60"},
        faulty={f"darkroom_deadly_tasks{{{_WEB}}}": "0x10 1x50"},
        labels={"job": "darkroom"},
        told="Workers die again and again under 1 tasks: `/ops` and `darkroom doctor` name them.",
    ),
    Alert(
        "DarkroomQueueFull",
        'sum by (job) (increase(darkroom_orders_refused_total{reason="queue_full"}[<2m>])) > 0',
        "15s",
        "page",
        "The queue is full: {{ $value | humanize }} orders were answered 503 in two minutes.",
        healthy={f'darkroom_orders_refused_total{{{_WEB},reason="queue_full"}}': "0x60"},
        faulty={f'darkroom_orders_refused_total{{{_WEB},reason="queue_full"}}': "0x20 5+5x40"},
        labels={"job": "darkroom"},
        told="The queue is full: 10 orders were answered 503 in two minutes.",
    ),
    Alert(
        "DarkroomFeedStorm",
        'max by (job) (darkroom_troubled_users{kind=~"feed_opened|streams|requests"}) > 0',
        "1m",
        "ticket",
        "{{ $value }} users ask for more than they may, again and again: `/ops` names them.",
        healthy={f'darkroom_troubled_users{{{_WEB},kind="feed_opened"}}': "0x20 1 0x39"},
        faulty={f'darkroom_troubled_users{{{_WEB},kind="feed_opened"}}': "0x20 1x40"},
        labels={"job": "darkroom"},
        told="1 users ask for more than they may, again and again: `/ops` names them.",
    ),
    Alert(
        "DarkroomClockOff",
        "abs(darkroom_clock_skew_seconds) > 2",
        "1m",
        "ticket",
        "The clock of {{ $labels.instance }} is {{ $value | humanizeDuration }} off the database's.",
        healthy={f"darkroom_clock_skew_seconds{{{_WEB}}}": "0x60"},
        faulty={f"darkroom_clock_skew_seconds{{{_WEB}}}": "0x10 -90x50"},
        labels={"job": "darkroom", "instance": "web-1"},
        told="The clock of web-1 is 1m 30s off the database's.",
    ),
    Alert(
        "DarkroomWebhooksLate",
        "max by (job) (darkroom_oldest_webhook_seconds) > 3600",
        "5m",
        "ticket",
        "A webhook has not arrived for {{ $value | humanizeDuration }}.",
        # A message that failed during a receiver's deployment or restart arrives by its fourth attempt.
        healthy={f"darkroom_oldest_webhook_seconds{{{_WEB}}}": "0+60x40 0x20"},
        faulty={f"darkroom_oldest_webhook_seconds{{{_WEB}}}": "3000+60x60"},
        labels={"job": "darkroom"},
        told="A webhook has not arrived for 1h 20m 0s.",
    ),
    Alert(
        "DarkroomTypeFails",
        f"{FAILED.record} > 10 and {FAILED_SHARE.record} > 0.5",
        "15s",
        "page",
        "{{ $value | humanize }} attempts of {{ $labels.type }} failed within 10 minutes, over half of all.",
        healthy={
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="failed"}}': "0+1x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="retried"}}': "0+1x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="completed"}}': "0+30x60",
        },
        faulty={
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="failed"}}': "0+1x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="retried"}}': "0+2x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="completed"}}': "0+2x60",
        },
        labels={"job": "darkroom", "type": "fitting"},
        told="30 attempts of fitting failed within 10 minutes, over half of all.",
    ),
    Alert(
        "DarkroomTypeFailsSlowly",
        f"{FAILED_1H.record} >= 5 and {FAILED_SHARE_1H.record} > 0.9",
        "5m",
        "ticket",
        "{{ $value | humanize }} attempts of {{ $labels.type }} failed within an hour, nearly all.",
        healthy={
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="failed"}}': "0+1x60",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="completed"}}': "0+1x60",
        },
        faulty={
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="failed"}}': "0x3 1x3 2x3 3x3 4x3 5x3 6x9",
            f'darkroom_task_run_seconds_count{{{_WEB},type="fitting",outcome="completed"}}': "0x60",
        },
        labels={"job": "darkroom", "type": "fitting"},
        told="6 attempts of fitting failed within an hour, nearly all.",
    ),
    Alert(
        "DarkroomCrashLoop",
        "increase(darkroom_process_restarts_total[<10m>]) > 3",
        "0m",
        "page",
        "{{ $labels.process }} of {{ $labels.instance }} was restarted {{ $value | humanize }} times in 10 minutes.",
        healthy={f'darkroom_process_restarts_total{{{_WEB},process="web"}}': "0x20 1x40"},
        faulty={f'darkroom_process_restarts_total{{{_WEB},process="web"}}': "0x20 1+1x40"},
        labels={"job": "darkroom", "instance": "web-1", "process": "web"},
        told="web of web-1 was restarted 10 times in 10 minutes.",
    ),
    Alert(
        "DarkroomDiskFull",
        "darkroom_disk_free_bytes < 1e6",
        "15s",
        "page",
        "The disk under {{ $labels.path }} of {{ $labels.instance }} is full: nothing is accepted, nothing ends.",
        healthy={f'darkroom_disk_free_bytes{{{_WEB},path="files"}}': "2e9x60"},
        faulty={f'darkroom_disk_free_bytes{{{_WEB},path="files"}}': "2e9x10 4096x50"},
        labels={"job": "darkroom", "instance": "web-1", "path": "files"},
        told="The disk under files of web-1 is full: nothing is accepted, nothing ends.",
    ),
    Alert(
        "DarkroomDatabaseFull",
        "max by (job) (darkroom_database_full) == 1",
        "15s",
        "page",
        "The disk of the database's server is full: nothing is accepted, nothing ends.",
        healthy={f"darkroom_database_full{{{_WEB}}}": "0x60"},
        faulty={f"darkroom_database_full{{{_WEB}}}": "0x10 1x50"},
        labels={"job": "darkroom"},
        told="The disk of the database's server is full: nothing is accepted, nothing ends.",
    ),
    Alert(
        "DarkroomDiskLow",
        "darkroom_disk_free_bytes / darkroom_disk_size_bytes < 0.1",
        "5m",
        "page",
        "The disk under {{ $labels.path }} of {{ $labels.instance }} has {{ $value | humanizePercentage }} left.",
        healthy={
            f'darkroom_disk_free_bytes{{{_WEB},path="files"}}': "20x60",
            f'darkroom_disk_size_bytes{{{_WEB},path="files"}}': "100x60",
        },
        faulty={
            f'darkroom_disk_free_bytes{{{_WEB},path="files"}}': "20-1x12 8x47",
            f'darkroom_disk_size_bytes{{{_WEB},path="files"}}': "100x60",
        },
        labels={"job": "darkroom", "instance": "web-1", "path": "files"},
        told="The disk under files of web-1 has 8% left.",
    ),
)
