"""The alerts: each says that users are hurt, or soon will be, and that nothing will mend it by itself.

What mends itself (a killed worker, a lost hint, one failed call) is no alert; that it is not mended in time is.
Each has its section in docs/operating.md.
"""

from __future__ import annotations

from metrics.watching.recordings import FEED_P99, REFUNDED_SHARE, REFUNDS
from metrics.watching.shapes import Alert

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
        # One that drains ends soon, and its successor begins; the young have not beaten yet.
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
        "DarkroomDispatcherSilent",
        "min by (job) (darkroom_dispatcher_beat_seconds) > <10>",
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
        "{{ $value }} tasks are stuck ({{ $labels.reason }}) and nobody rescues them:"
        " `darkroom tasks --stuck` names them, `darkroom sweep` rescues them now.",
        # What the dispatcher and the minute's sweep take care of is gone at the next look, or the one after.
        healthy={f'darkroom_stuck_tasks{{{_WEB},reason="dead_worker"}}': "0x5 3 3 0x54"},
        faulty={f'darkroom_stuck_tasks{{{_WEB},reason="dead_worker"}}': "0x5 1+1x55"},
        labels={"job": "darkroom", "reason": "dead_worker"},
        told="25 tasks are stuck (dead_worker) and nobody rescues them:"
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
        "The web process {{ $labels.instance }} does not hear of changes: its feeds stand still.",
        healthy={f"darkroom_listener_up{{{_WEB}}}": "1x60"},
        faulty={f"darkroom_listener_up{{{_WEB}}}": "1x10 0x50"},
        labels={"job": "darkroom", "instance": "web-1"},
        told="The web process web-1 does not hear of changes: its feeds stand still.",
    ),
    Alert(
        "DarkroomFeedLag",
        f"{FEED_P99.record} > 2",
        "2m",
        "ticket",
        "One change in a hundred reaches its feed only after {{ $value | humanizeDuration }}.",
        healthy={
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="0.25"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="5.0"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="+Inf"}}': "0+60x60",
        },
        faulty={
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="0.25"}}': "0+30x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="5.0"}}': "0+60x60",
            f'darkroom_feed_delivery_seconds_bucket{{{_WEB},le="+Inf"}}': "0+60x60",
        },
        labels={"job": "darkroom"},
        told="One change in a hundred reaches its feed only after 4.905s.",
    ),
    Alert(
        "DarkroomBreakerOpen",
        # Over a while: a breaker that lets a task try now and then is half open in between.
        "avg by (job, provider) (avg_over_time(darkroom_provider_up[<5m>])) < 0.5",
        "1m",
        "page",
        "The AI service {{ $labels.provider }} is refused by its circuit breaker; its tasks wait.",
        healthy={f'darkroom_provider_up{{{_WEB},provider="retouch"}}': "1x20 0 1x39"},
        faulty={f'darkroom_provider_up{{{_WEB},provider="retouch"}}': "1x10 0 0 1 0 0 1 0x50"},
        labels={"job": "darkroom", "provider": "retouch"},
        told="The AI service retouch is refused by its circuit breaker; its tasks wait.",
    ),
    Alert(
        "DarkroomWebhooksLate",
        "max by (job) (darkroom_oldest_webhook_seconds) > 3600",
        "5m",
        "ticket",
        "A webhook has not arrived for {{ $value | humanizeDuration }}.",
        # What a receiver misses while it is deployed or restarted has arrived by its fourth attempt.
        healthy={f"darkroom_oldest_webhook_seconds{{{_WEB}}}": "0+60x40 0x20"},
        faulty={f"darkroom_oldest_webhook_seconds{{{_WEB}}}": "3000+60x60"},
        labels={"job": "darkroom"},
        told="A webhook has not arrived for 1h 20m 0s.",
    ),
    Alert(
        "DarkroomRefundsSpike",
        f"{REFUNDS.record} > 10 and {REFUNDED_SHARE.record} > 0.2",
        "1m",
        "ticket",
        "{{ $value | humanize }} charges were refunded within 15 minutes, over a fifth of what was finished.",
        healthy={
            f"darkroom_refunds_total{{{_WEB}}}": "0+1x60",
            f'darkroom_tasks_finished_total{{{_WEB},type="fitting",outcome="failed"}}': "0+1x60",
            f'darkroom_tasks_finished_total{{{_WEB},type="fitting",outcome="completed"}}': "0+30x60",
        },
        faulty={
            f"darkroom_refunds_total{{{_WEB}}}": "0+10x60",
            f'darkroom_tasks_finished_total{{{_WEB},type="fitting",outcome="failed"}}': "0+10x60",
            f'darkroom_tasks_finished_total{{{_WEB},type="fitting",outcome="completed"}}': "0+30x60",
        },
        labels={"job": "darkroom"},
        told="150 charges were refunded within 15 minutes, over a fifth of what was finished.",
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
