"""The rows of the dashboard about what tasks need: AI services, feeds, webhooks, money, processes."""

from __future__ import annotations

from metrics.monitoring.expressions import JOB, TYPE, living, quantile, told
from metrics.monitoring.recordings import CALL_BUCKETS, FEED_P99, REFUNDED_SHARE
from metrics.monitoring.shapes import Panel, Query, Row

SERVICES = Row(
    "AI services",
    (
        Panel(
            "Services up",
            "0 while the circuit breaker keeps requests from it.",
            (Query(f"min by (provider) (darkroom_provider_up{{{JOB}}})", "{{provider}}"),),
        ),
        Panel(
            "Circuit breakers not closed",
            "1 for the state that it is in.",
            (
                Query(
                    living(f'max by (provider, state) (darkroom_breaker_state{{{JOB},state!="closed"}})'),
                    "{{provider}} {{state}}",
                ),
            ),
        ),
        Panel(
            "Down for",
            "Since a circuit breaker has opened, its tries included.",
            (Query(living(told("darkroom_breaker_open_seconds", "provider")), "{{provider}}"),),
            unit="s",
        ),
        Panel(
            "Put back a minute",
            "Attempts that wait at no cost, by type and by what they wait for.",
            (
                Query(
                    living(f"60 * max by (type, reason) (rate(darkroom_postponed_total{{{TYPE}}}[<5m>]))"),
                    "{{type}} {{reason}}",
                ),
            ),
        ),
        Panel(
            "Calls a minute",
            "By provider and outcome.",
            (
                Query(
                    living(
                        f"60 * max by (provider, outcome) (rate(darkroom_ai_call_seconds_count{{{JOB}}}[<5m>]))"
                    ),
                    "{{provider}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Time of a call",
            "As long as the service took.",
            (
                Query(living(quantile(0.5, CALL_BUCKETS.record, "provider", JOB)), "{{provider}} p50"),
                Query(living(quantile(0.95, CALL_BUCKETS.record, "provider", JOB)), "{{provider}} p95"),
            ),
            unit="s",
        ),
    ),
)
FEED = Row(
    "Feed",
    (
        Panel(
            "Open streams",
            "In all web processes.",
            (Query(f"sum(darkroom_feed_clients{{{JOB}}})", "streams"),),
        ),
        Panel(
            "Events a second",
            "Written to streams.",
            (Query(f"sum(rate(darkroom_feed_events_total{{{JOB}}}[<5m>]))", "events"),),
        ),
        Panel(
            "Opened a minute",
            "Streams; a client that comes back all the time opens many.",
            (Query(f"60 * sum(rate(darkroom_feeds_opened_total{{{JOB}}}[<5m>]))", "opened"),),
        ),
        Panel(
            "Users in trouble",
            "Who in the last minute was refused orders, or asked for more than they may; `/ops` names them.",
            (Query(living(told("darkroom_troubled_users", "kind")), "{{kind}}"),),
        ),
        Panel(
            "Orders refused a minute",
            "For lack of credits (402), the user's own limit (429), a full queue (503).",
            (
                Query(
                    living(f"60 * sum by (reason) (rate(darkroom_orders_refused_total{{{JOB}}}[<5m>]))"),
                    "{{reason}}",
                ),
            ),
        ),
        Panel(
            "Delivery",
            "From the commit to the first stream's socket; 99 of 100 are faster.",
            (Query(f"{FEED_P99.record}{{{JOB}}}", "p99"),),
            unit="s",
        ),
    ),
)
WEBHOOKS = Row(
    "Webhooks",
    (
        Panel(
            "Attempts a minute",
            "Delivered, delayed (tried again later), failed (given up), gone (the receiver answered 410).",
            (
                Query(
                    living(f"60 * max by (outcome) (rate(darkroom_webhook_deliveries_total{{{JOB}}}[<5m>]))"),
                    "{{outcome}}",
                ),
            ),
        ),
        Panel(
            "Owed",
            "Deliveries that have not arrived.",
            (Query(f"max by (state) (darkroom_webhooks{{{JOB}}})", "{{state}}"),),
        ),
        Panel(
            "Oldest owed",
            "Since its task has ended; given up after a day.",
            (Query(f"max(darkroom_oldest_webhook_seconds{{{JOB}}})", "oldest"),),
            unit="s",
        ),
    ),
)
MONEY = Row(
    "Money",
    (
        Panel(
            "Credits a minute",
            "Moved in the ledger.",
            (Query(living(f"60 * max by (kind) (rate(darkroom_credits_total{{{JOB}}}[<5m>]))"), "{{kind}}"),),
        ),
        Panel(
            "Credits taken, money spent",
            "An hour: credits debited less refunds, beside what each AI service said it has cost, in its own unit. "
            "Exact sums: `darkroom costs --since DAY`.",
            (
                Query(
                    f'3600 * (max(rate(darkroom_credits_total{{{JOB},kind="debit"}}[<10m>]))'
                    f' - max(rate(darkroom_credits_total{{{JOB},kind="refund"}}[<10m>])))',
                    "credits taken",
                ),
                Query(
                    living(f"3600 * max by (provider, unit) (rate(darkroom_ai_cost_total{{{JOB}}}[<10m>]))"),
                    "{{provider}} {{unit}}",
                ),
            ),
        ),
        Panel(
            "Refunds a minute",
            "Charges given back, whole or in part.",
            (Query(f"60 * max(rate(darkroom_refunds_total{{{JOB}}}[<5m>]))", "refunds"),),
        ),
        Panel(
            "Refunds per finished task",
            "Over a quarter of an hour.",
            (Query(f"{REFUNDED_SHARE.record}{{{JOB}}}", "share"),),
            unit="percentunit",
        ),
    ),
)
PROCESSES = Row(
    "Processes",
    (
        Panel(
            "Ready",
            "1 while a process of `darkroom up` is ready for work.",
            (
                Query(
                    f"min by (instance, process) (darkroom_process_up{{{JOB}}})", "{{instance}} {{process}}"
                ),
            ),
        ),
        Panel(
            "Restarts in 10 minutes",
            "By the supervisor.",
            (
                Query(
                    living(f"increase(darkroom_process_restarts_total{{{JOB}}}[<10m>])"),
                    "{{instance}} {{process}}",
                ),
            ),
        ),
        Panel(
            "Disk left",
            "Share of the disk that holds it.",
            (
                Query(
                    f"darkroom_disk_free_bytes{{{JOB}}} / darkroom_disk_size_bytes{{{JOB}}}",
                    "{{instance}} {{path}}",
                ),
                Query(f"1 - max(darkroom_database_full{{{JOB}}})", "the database's server, 0 when full"),
            ),
            unit="percentunit",
        ),
        Panel(
            "Requests a second",
            "By status.",
            (
                Query(
                    living(f"sum by (status) (rate(darkroom_http_request_seconds_count{{{JOB}}}[<5m>]))"),
                    "{{status}}",
                ),
            ),
        ),
        Panel(
            "Time of a request",
            "By route; 95 of 100 are faster.",
            (
                Query(
                    living(
                        "histogram_quantile(0.95, sum by (route, le)"
                        f" (rate(darkroom_http_request_seconds_bucket{{{JOB}}}[<5m>])))"
                    ),
                    "{{route}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Clock",
            "By how much a web's clock is ahead of the database's.",
            (Query(f"darkroom_clock_skew_seconds{{{JOB}}}", "{{instance}}"),),
            unit="s",
        ),
        Panel(
            "Round trips",
            "The smallest read of the database, and connecting to the broker with one PING.",
            (
                Query(f"max(darkroom_database_roundtrip_seconds{{{JOB}}})", "database"),
                Query(f"max(darkroom_broker_roundtrip_seconds{{{JOB}}})", "broker"),
            ),
            unit="s",
        ),
    ),
)
