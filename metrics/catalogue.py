"""Every metric of the whole system, with its HELP, TYPE and closed label sets (docs/operating.md).

`web_metrics` holds the web process's own metrics.  Label values come from settings and from the program's own words;
any other value (SQL may insert any type) is shown as OTHER, so that a producer can't make new series.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Literal

from config.settings import Settings
from supervisor.core.rescue import Reason
from supervisor.remote.amounts import NANOS
from supervisor.store.counters.counters import OTHER
from supervisor.store.ledger import provider_costs
from supervisor.store.limits.notices import Notice

Kind = Literal["gauge", "counter", "histogram"]
LabelValues = tuple[str, ...]

# The reasons for stuck tasks are public names.  An expired task is given up at its time, so it is not stuck.
STUCK_REASONS = (Reason.DEAD_WORKER, Reason.DEADLINE, Reason.UNDELIVERED, Reason.REMOTE_OVERDUE)
OPEN_STATUSES = ("pending", "processing", "ai_processing")
RESCUE_ACTIONS = ("released", "retried", "failed")
ENDS = ("completed", "failed", "cancelled")
RUN_ENDS = (*ENDS, "retried", "postponed", "released")
BREAKER_STATES = ("closed", "half_open", "open")
POSTPONED_FOR = (
    "rate_limited", "at_capacity", "our_limit", "provider_down", "wrong_settings", "store_away", "no_room",
)  # fmt: skip
RUN_STATUSES = ("processing", "ai_processing")
WEBHOOK_STATES = ("waiting", "sending")
WEBHOOK_ENDS = ("delivered", "delayed", "failed", "gone")
CREDIT_KINDS = ("grant", "debit", "refund")
# `done`, the error.code, or the reason of waiting; `error` stands for ends without a code: cancelled, out of time, or
# broken.
CALL_ENDS = (
    "done", "error", "ai_timeout", "at_capacity", "bad_params", "content_rejected", "image_unusable", "invalid_input",
    "no_person_found", "provider_down", "provider_error", "rate_limited", "remote_lost", "unknown_outcome",
    "worker_died",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Label:
    """A label and all of its values.  otherwise: shown for any other value."""

    name: str
    values: tuple[str, ...]
    otherwise: str = OTHER


@dataclasses.dataclass(frozen=True)
class Family:
    """One metric name.  divisor: of a counter that the store keeps in parts, how many make one.

    pairs: where the labels depend on each other, the values that their first ones have together."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    divisor: int = 1
    pairs: tuple[LabelValues, ...] | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def known_label_sets(self) -> Iterator[LabelValues]:
        """The label sets that are exported as 0 before the first event."""
        if self.pairs is None:
            return itertools.product(*(label.values for label in self.labels))
        others = [label.values for label in self.labels[len(next(iter(self.pairs), ())) :]]
        return ((*first, *rest) for first in self.pairs for rest in itertools.product(*others))

    def closed(self, given: Mapping[str, str]) -> LabelValues:
        """The label set for a value with these labels."""
        return tuple(
            value if (value := given.get(label.name, "")) in label.values else label.otherwise
            for label in self.labels
        )


DATABASE_UP = Family("darkroom_database_up", "gauge", "1 while the database answers this process in time.")
DATABASE_FULL = Family(
    "darkroom_database_full", "gauge", "1 while the disk of the database's server takes nothing more."
)
CLOCK_SKEW = Family(
    "darkroom_clock_skew_seconds",
    "gauge",
    "By how much this host's clock is certainly ahead of the database's; below 0 where it is behind.",
)
DATABASE_ROUNDTRIP = Family(
    "darkroom_database_roundtrip_seconds", "gauge", "How long the smallest read took at the last look."
)


def families_of_the_database(settings: Settings) -> tuple[Family, ...]:
    """The metrics of the database."""
    type_ = Label("type", tuple(settings.tasks))
    provider = Label("provider", tuple(settings.providers))
    costly = {name: each.cost_unit for name, each in settings.providers.items() if each.cost_unit}
    offer = Label("name", settings.names_of_offers)
    steps = tuple((name, step.name) for name, of in settings.tasks.items() for step in of.steps)
    return (
        Family(
            "darkroom_tasks",
            "gauge",
            "Open tasks by type and status.",
            (type_, Label("status", OPEN_STATUSES)),
        ),
        Family("darkroom_queue_depth", "gauge", "Tasks that are pending and due.", (type_,)),
        Family(
            "darkroom_oldest_pending_seconds",
            "gauge",
            "How long the oldest due task has been waiting since it was submitted, put back or became due; 0 for none.",
            (type_,),
        ),
        Family(
            "darkroom_running_tasks",
            "gauge",
            "Tasks that count against MAX_RUNNING: processing or ai_processing.",
            (type_,),
        ),
        Family(
            "darkroom_stuck_tasks",
            "gauge",
            "Tasks that the next round of rescue would take, by reason.",
            (Label("reason", STUCK_REASONS),),
        ),
        Family(
            "darkroom_worker_slots",
            "gauge",
            "Task slots of workers that show they live: busy, free, or (draining) empty in one that takes nothing new.",
            (Label("state", ("busy", "free", "draining")),),
        ),
        Family(
            "darkroom_offers",
            "gauge",
            "What workers that take tasks offer to types that need it, free or held by a task.",
            (offer, Label("state", ("free", "held"))),
        ),
        Family("darkroom_needed", "gauge", "How much of it tasks need that are pending and due.", (offer,)),
        Family(
            "darkroom_needed_oldest_pending_seconds",
            "gauge",
            "How long the oldest due task that needs it has been waiting; 0 for none.",
            (offer,),
        ),
        Family(
            "darkroom_unplaceable_tasks",
            "gauge",
            "Due tasks of a type that no worker takes, while workers take others.",
            (type_,),
        ),
        Family(
            "darkroom_workers",
            "gauge",
            "Worker processes that show they live, taking tasks (live) or not, and dead ones whose tasks are still to"
            " be rescued.",
            (Label("state", ("live", "draining", "dead")),),
        ),
        Family(
            "darkroom_silent_workers",
            "gauge",
            "Worker processes that have shown no heartbeat for LEASE_SECONDS and are not marked dead yet.",
        ),
        Family(
            "darkroom_worker_beat_seconds",
            "gauge",
            "Since the last heartbeat: of the worker with the newest (youngest) and with the oldest one; 0 for none.",
            (Label("worker", ("youngest", "oldest")),),
        ),
        Family(
            "darkroom_dispatcher_beat_seconds",
            "gauge",
            "Since the last beat of the working dispatcher, which beats every 5 s at least; +Inf for never.",
        ),
        Family(
            "darkroom_last_sweep_timestamp_seconds",
            "gauge",
            "When the last sweep ended, in seconds since 1970; 0 before the first one.",
        ),
        Family(
            "darkroom_rescues_total",
            "counter",
            "Stuck tasks rescued, by what became of them and why they were stuck.",
            (Label("action", RESCUE_ACTIONS), Label("reason", tuple(Reason))),
        ),
        Family(
            "darkroom_tasks_finished_total",
            "counter",
            "Tasks that came to an end; a task that is resubmitted ends again.",
            (type_, Label("outcome", ENDS)),
        ),
        Family(
            "darkroom_task_wait_seconds",
            "histogram",
            "Time from a task's submission, or its run_after, to its first claim.",
            (type_,),
        ),
        Family(
            "darkroom_task_run_seconds",
            "histogram",
            "Time from the beginning of an attempt to its end.",
            (type_, Label("outcome", RUN_ENDS)),
        ),
        Family(
            "darkroom_step_run_seconds",
            "histogram",
            "Time from the beginning of the last attempt at a step to its end, of types with steps.",
            (type_, Label("step", tuple(dict.fromkeys(step for _, step in steps))), Label("outcome", ENDS)),
            pairs=steps,
        ),
        Family(
            "darkroom_ai_call_seconds",
            "histogram",
            "Time that a provider took for one call; outcome is done or the error's code.",
            (provider, Label("outcome", CALL_ENDS, otherwise="error")),
        ),
        Family(
            "darkroom_dispatch_lag_seconds",
            "histogram",
            "Time from a task's being due to its claim, of tasks for which a slot was free all that time.",
        ),
        Family(
            "darkroom_provider_up",
            "gauge",
            "0 while the provider's circuit breaker keeps requests from it.",
            (provider,),
        ),
        Family(
            "darkroom_breaker_state",
            "gauge",
            "1 for the state that the provider's circuit breaker is in, 0 for the others.",
            (provider, Label("state", BREAKER_STATES)),
        ),
        Family(
            "darkroom_breaker_open_seconds",
            "gauge",
            "For how long the provider's circuit breaker has been open, tries included; 0 when closed, or not tried.",
            (provider,),
        ),
        Family(
            "darkroom_postponed_total",
            "counter",
            "Attempts that were put back at no cost, by what they wait for.",
            (type_, Label("reason", POSTPONED_FOR)),
        ),
        Family(
            "darkroom_unmoved_seconds",
            "gauge",
            "For how long the running task has shown nothing new that has for longest, by status; 0 for none.",
            (Label("status", RUN_STATUSES),),
        ),
        Family(
            "darkroom_deadly_tasks",
            "gauge",
            "Open tasks under which workers have died at least twice, at most five.",
        ),
        Family(
            "darkroom_troubled_users",
            "gauge",
            "Users who in the last minute were refused orders, or asked for more than they may, by what.",
            (Label("kind", tuple(Notice)),),
        ),
        Family(
            "darkroom_credits_total",
            "counter",
            "Credits moved in the ledger, by kind; debits count upwards too.",
            (Label("kind", CREDIT_KINDS),),
        ),
        Family(
            provider_costs.COUNTER,
            "counter",
            "What AI services said their work has cost, in their own units; `darkroom costs` has the exact sums.",
            (Label("provider", tuple(costly)), Label("unit", tuple(dict.fromkeys(costly.values())))),
            divisor=NANOS,
        ),
        Family(
            "darkroom_claims_refused_total",
            "counter",
            "Messages in a worker's list that no key of ours has signed: another program writes to the broker.",
        ),
        Family("darkroom_refunds_total", "counter", "Refunds written to the ledger, partial ones included."),
        Family(
            "darkroom_webhooks",
            "gauge",
            "Webhooks that are owed: waiting for their next attempt, or being sent.",
            (Label("state", WEBHOOK_STATES),),
        ),
        Family(
            "darkroom_oldest_webhook_seconds",
            "gauge",
            "For how long the oldest webhook that has not arrived is owed; 0 for none.",
        ),
        Family(
            "darkroom_webhook_deliveries_total",
            "counter",
            "Attempts to deliver a webhook: delivered, delayed (it is tried again), failed (given up), gone (410).",
            (Label("outcome", WEBHOOK_ENDS),),
        ),
    )
