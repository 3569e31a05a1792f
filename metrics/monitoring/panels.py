"""The dashboard, row by row: is it well, and if not, where to look.

In an expression `{JOB` and `{TYPE` stand for the selectors by the dashboard's variables (`shapes.SELECTORS`).
"""

from __future__ import annotations

from metrics.monitoring.shapes import Number, Panel, Row

# fmt: off
ROWS = (
    Row("Is it healthy?", (
        Number("Web processes up", "Scraped and answering.", "sum(up{JOB})", red=1, red_below=True),
        Number("Database", "1 while every web process can read it.",
               "min(darkroom_database_up{JOB})", red=1, red_below=True),
        Number("Broker", "1 while it answers every web process.",
               "min(darkroom_broker_up{JOB})", red=1, red_below=True),
        Number("Feeds hear of changes", "1 while every web process does.",
               "min(darkroom_listener_up{JOB})", red=1, red_below=True),
        Number("Live workers", "Processes that take tasks and show that they live.",
               'max(darkroom_workers{JOB,state="live"})', red=1, red_below=True),
        Number("Dispatcher's last beat", "Some tenths of a second while one works.",
               "min(darkroom_dispatcher_beat_seconds{JOB})", red=10, unit="s"),
        Number("Stuck tasks", "What the next rescue would take; 0 but for moments.",
               "sum(max by (reason) (darkroom_stuck_tasks{JOB}))", red=1),
        Number("Oldest waiting", "Of all types, since it was due.",
               "max(darkroom_oldest_pending_seconds{TYPE})", red=300, unit="s"),
        Number("Since the last sweep", "One a minute is usual.",
               "time() - max(darkroom_last_sweep_timestamp_seconds{JOB})", red=180, unit="s"),
    )),
    Row("Queue", (
        Panel("Waiting and due", "Tasks that could begin if a slot were free.", {
            "{{type}}": "(max by (type) (darkroom_queue_depth{TYPE})) > 0"}),
        Panel("Oldest waiting", "How long the task that has waited longest has been due.", {
            "{{type}}": "max by (type) (darkroom_oldest_pending_seconds{TYPE})"}, "s"),
        Panel("Offers", "What workers offer to types that need it: free, held, and what waiting tasks need of it.", {
            "{{name}} {{state}}": "(max by (name, state) (darkroom_offers{JOB})) > 0",
            "{{name}} needed": "(max by (name) (darkroom_needed{JOB})) > 0",
        }),
        Panel("Waiting for what is offered",
              "How long the oldest task waits that needs it; and tasks of types that no worker takes.", {
            "{{name}}, seconds": "max by (name) (darkroom_needed_oldest_pending_seconds{JOB})",
            "{{type}}, tasks nobody takes": "(max by (type) (darkroom_unplaceable_tasks{TYPE})) > 0",
        }),
        Panel("Stuck", "What the next rescue would take, by reason.", {
            "{{reason}}": "(max by (reason) (darkroom_stuck_tasks{JOB})) > 0"}),
        Panel("Wait until the first start", "From being due to the first claim.", {
            "{{type}} p50":
                "(histogram_quantile(0.5, sum by (type, le)"
                " (job_type_le:darkroom_task_wait_seconds_bucket:rate5m{TYPE}))) > 0",
            "{{type}} p95":
                "(histogram_quantile(0.95, sum by (type, le)"
                " (job_type_le:darkroom_task_wait_seconds_bucket:rate5m{TYPE}))) > 0",
        }, "s"),
        Panel("Dispatch lag",
              "From being due to the claim, where a slot was free: the dispatcher's own share of the wait.", {
            "p50": "histogram_quantile(0.5, max by (le) (rate(darkroom_dispatch_lag_seconds_bucket{JOB}[<5m>])))",
            "p95": "histogram_quantile(0.95, max by (le) (rate(darkroom_dispatch_lag_seconds_bucket{JOB}[<5m>])))",
        }, "s"),
        Panel("Open tasks", "By status.", {
            "{{status}}": "sum by (status) (max by (type, status) (darkroom_tasks{TYPE}))"}),
    )),
    Row("Running", (
        Panel("Running", "Processing or with an AI service.", {
            "{{type}}": "(max by (type) (darkroom_running_tasks{TYPE})) > 0"}),
        Panel("Slots", "Of present workers.", {"{{state}}": "max by (state) (darkroom_worker_slots{JOB})"}),
        Panel("Workers", "Processes by state; silent ones show no heartbeat, dead ones still hold tasks.", {
            "{{state}}": "max by (state) (darkroom_workers{JOB})",
            "silent": "max(darkroom_silent_workers{JOB})",
        }),
        Panel("Last heartbeats",
              "Of the worker with the newest heartbeat, and with the oldest; each beats every HEARTBEAT_SECONDS.", {
            "{{worker}}": "max by (worker) (darkroom_worker_beat_seconds{JOB})"}, "s"),
        Panel("Finished a minute", "By outcome.", {
            "{{outcome}}": "(60 * sum by (outcome) (job_type_outcome:darkroom_tasks_finished:rate5m{TYPE})) > 0"}),
        Panel("Attempts that fail", "Of those that ended, over ten minutes; tried again or not, free or not.", {
            "{{type}}": "(job_type:darkroom_attempts_failed:ratio10m{TYPE}) > 0"}, "percentunit"),
        Panel("Nothing new for", "Of the running task that has shown nothing new for longest.", {
            "{{status}}": "max by (status) (darkroom_unmoved_seconds{JOB})"}, "s"),
        Panel("Deadly tasks", "Open ones under which workers have died at least twice; `/ops` names them.", {
            "tasks": "max(darkroom_deadly_tasks{JOB})"}),
        Panel("Run time", "From a claim to the end of that attempt.", {
            "{{type}} p50":
                "(histogram_quantile(0.5, sum by (type, le)"
                " (job_type_le:darkroom_task_run_seconds_bucket:rate5m{TYPE}))) > 0",
            "{{type}} p95":
                "(histogram_quantile(0.95, sum by (type, le)"
                " (job_type_le:darkroom_task_run_seconds_bucket:rate5m{TYPE}))) > 0",
        }, "s"),
        Panel("Run time of steps", "Of types with steps: of the last attempt at a step, the 95th percentile.", {
            "{{type}} {{step}}":
                "(histogram_quantile(0.95, sum by (type, step, le) (max by (type, step, outcome, le)"
                " (rate(darkroom_step_run_seconds_bucket{TYPE}[<5m>]))))) > 0"}, "s"),
        Panel("Rescued a minute", "By why and what became of them.", {
            "{{reason}} {{action}}": "(60 * max by (reason, action) (rate(darkroom_rescues_total{JOB}[<5m>]))) > 0"}),
        Panel("Unsigned claims a minute",
              "Messages in a worker's list that no key of ours has signed: another program writes to the broker.", {
            "refused": "60 * max(rate(darkroom_claims_refused_total{JOB}[<5m>]))"}),
    )),
    Row("AI services", (
        Panel("Services up", "0 while the circuit breaker keeps requests from it.", {
            "{{provider}}": "min by (provider) (darkroom_provider_up{JOB})"}),
        Panel("Circuit breakers not closed", "1 for the state that it is in.", {
            "{{provider}} {{state}}": '(max by (provider, state) (darkroom_breaker_state{JOB,state!="closed"})) > 0'}),
        Panel("Down for", "Since a circuit breaker has opened, its tries included.", {
            "{{provider}}": "(max by (provider) (darkroom_breaker_open_seconds{JOB})) > 0"}, "s"),
        Panel("Put back a minute", "Attempts that wait at no cost, by type and by what they wait for.", {
            "{{type}} {{reason}}": "(60 * max by (type, reason) (rate(darkroom_postponed_total{TYPE}[<5m>]))) > 0"}),
        Panel("Calls a minute", "By provider and outcome.", {
            "{{provider}} {{outcome}}":
                "(60 * max by (provider, outcome) (rate(darkroom_ai_call_seconds_count{JOB}[<5m>]))) > 0",
        }),
        Panel("Time of a call", "As long as the service took.", {
            "{{provider}} p50":
                "(histogram_quantile(0.5, sum by (provider, le)"
                " (job_provider_le:darkroom_ai_call_seconds_bucket:rate5m{JOB}))) > 0",
            "{{provider}} p95":
                "(histogram_quantile(0.95, sum by (provider, le)"
                " (job_provider_le:darkroom_ai_call_seconds_bucket:rate5m{JOB}))) > 0",
        }, "s"),
    )),
    Row("Feed", (
        Panel("Open streams", "In all web processes.", {"streams": "sum(darkroom_feed_clients{JOB})"}),
        Panel("Events a second", "Written to streams.", {
            "events": "sum(rate(darkroom_feed_events_total{JOB}[<5m>]))"}),
        Panel("Opened a minute", "Streams; a client that comes back all the time opens many.", {
            "opened": "60 * sum(rate(darkroom_feeds_opened_total{JOB}[<5m>]))"}),
        Panel("Users in trouble",
              "Who in the last minute was refused orders, or asked for more than they may; `/ops` names them.", {
            "{{kind}}": "(max by (kind) (darkroom_troubled_users{JOB})) > 0"}),
        Panel("Orders refused a minute",
              "For lack of credits (402), the user's own limit (429), a full queue (503).", {
            "{{reason}}": "(60 * sum by (reason) (rate(darkroom_orders_refused_total{JOB}[<5m>]))) > 0"}),
        Panel("Delivery", "From the commit to the first stream's socket; 99 of 100 are faster.", {
            "p99": "job:darkroom_feed_delivery_seconds:p99_5m{JOB}"}, "s"),
    )),
    Row("Webhooks", (
        Panel("Attempts a minute",
              "Delivered, delayed (tried again later), failed (given up), gone (the receiver answered 410).", {
            "{{outcome}}": "(60 * max by (outcome) (rate(darkroom_webhook_deliveries_total{JOB}[<5m>]))) > 0"}),
        Panel("Owed", "Deliveries that have not arrived.", {"{{state}}": "max by (state) (darkroom_webhooks{JOB})"}),
        Panel("Oldest owed", "Since its task has ended; given up after a day.", {
            "oldest": "max(darkroom_oldest_webhook_seconds{JOB})"}, "s"),
    )),
    Row("Money", (
        Panel("Credits a minute", "Moved in the ledger.", {
            "{{kind}}": "(60 * max by (kind) (rate(darkroom_credits_total{JOB}[<5m>]))) > 0"}),
        Panel("Credits taken, money spent",
              "An hour: credits debited less refunds, beside what each AI service said it has cost, in its own"
              " unit. Exact sums: `darkroom costs --since DAY`.", {
            "credits taken":
                '3600 * (max(rate(darkroom_credits_total{JOB,kind="debit"}[<10m>])) -'
                ' max(rate(darkroom_credits_total{JOB,kind="refund"}[<10m>])))',
            "{{provider}} {{unit}}":
                "(3600 * max by (provider, unit) (rate(darkroom_ai_cost_total{JOB}[<10m>]))) > 0",
        }),
        Panel("Refunds a minute", "Charges given back, whole or in part.", {
            "refunds": "60 * max(rate(darkroom_refunds_total{JOB}[<5m>]))"}),
        Panel("Refunds per finished task", "Over a quarter of an hour.", {
            "share": "job:darkroom_refunds_per_finished:ratio15m{JOB}"}, "percentunit"),
    )),
    Row("Processes", (
        Panel("Ready", "1 while a process of `darkroom up` is ready for work.", {
            "{{instance}} {{process}}": "min by (instance, process) (darkroom_process_up{JOB})"}),
        Panel("Restarts in 10 minutes", "By the supervisor.", {
            "{{instance}} {{process}}": "(increase(darkroom_process_restarts_total{JOB}[<10m>])) > 0"}),
        Panel("Disk left", "Share of the disk that holds it.", {
            "{{instance}} {{path}}": "darkroom_disk_free_bytes{JOB} / darkroom_disk_size_bytes{JOB}",
            "the database's server, 0 when full": "1 - max(darkroom_database_full{JOB})",
        }, "percentunit"),
        Panel("Failures of web's loops a minute",
              "Errors that nobody has foreseen, in the loops beside the requests; each loop goes on by itself.", {
            "{{loop}}": "60 * sum by (loop) (rate(darkroom_loop_failures_total{JOB}[<5m>]))"}),
        Panel("Requests a second", "By status.", {
            "{{status}}": "(sum by (status) (rate(darkroom_http_request_seconds_count{JOB}[<5m>]))) > 0"}),
        Panel("Time of a request", "By route; 95 of 100 are faster.", {
            "{{route}}":
                "(histogram_quantile(0.95, sum by (route, le)"
                " (rate(darkroom_http_request_seconds_bucket{JOB}[<5m>])))) > 0",
        }, "s"),
        Panel("Clock", "By how much a web's clock is ahead of the database's.", {
            "{{instance}}": "darkroom_clock_skew_seconds{JOB}"}, "s"),
        Panel("Round trips", "The smallest read of the database, and connecting to the broker with one PING.", {
            "database": "max(darkroom_database_roundtrip_seconds{JOB})",
            "broker": "max(darkroom_broker_roundtrip_seconds{JOB})",
        }, "s"),
    )),
)
