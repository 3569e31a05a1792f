"""A day as Prometheus sees it, for promtool: load that follows the hour, four deploys, a night, and troubles that end
by themselves.

On a day without a fault no alert fires at any minute. With a fault in the afternoon its alert fires in time, and
otherwise only alerts of the same fault; there samples come every 15 s, as in production.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

from metrics.monitoring.prometheus import yaml

EVERY, MINUTE = 15, 60
DAY = 24 * 3600
FAULT_AT = 1200  # of the afternoons that have one
NOON = 14 * 3600  # when they begin
DEPLOYS = (9 * 3600, 13 * 3600, 18 * 3600, 22 * 3600)
WEB = 'job="darkroom",instance="web-1"'
LIVING = " > 0"  # the end of a panel's expression with many label sets that are 0, or have no observation

Value = Callable[[int], float]  # of the seconds since midnight
Series = dict[str, Value]


def tasks_a_minute(at: int) -> float:
    """At night hardly any, in the evening forty."""
    return max(0.05, 40 * max(0.0, math.sin(math.pi * (at / 3600 - 6) / 20)))


def done_by(at: int) -> float:
    """Tasks since midnight; a sum of the pace of each quarter of a minute."""
    return _DONE[at // EVERY]


def _sums() -> list[float]:
    total, sums = 0.0, []
    for tick in range(DAY // EVERY + 1):
        sums.append(total)
        total += tasks_a_minute(tick * EVERY) * EVERY / 60
    return sums


_DONE = _sums()


def in_deploy(at: int) -> int | None:
    """Seconds since a deploy began, for its first minute; None else."""
    return next((at - begun for begun in DEPLOYS if 0 <= at - begun < 60), None)


def since(at: int, times: tuple[int, ...]) -> int:
    return sum(at >= each for each in times)


def health() -> Series:
    """Every series that alerts read, on an ordinary day."""

    def during_deploy(usual: float, other: float, seconds: int = 30) -> Value:
        return lambda at: other if (into := in_deploy(at)) is not None and into < seconds else usual

    def share(of_all: float) -> Value:
        return lambda at: math.floor(of_all * done_by(at))

    runs = "darkroom_task_run_seconds_count"
    return {
        f"up{{{WEB}}}": during_deploy(1, 0),
        f"darkroom_database_up{{{WEB}}}": lambda at: 0 if 3 * 3600 <= at < 3 * 3600 + 30 else 1,
        f"darkroom_broker_up{{{WEB}}}": lambda at: 0 if 4 * 3600 <= at < 4 * 3600 + 30 else 1,
        f'darkroom_workers{{{WEB},state="live"}}': during_deploy(2, 0, 45),
        f'darkroom_workers{{{WEB},state="draining"}}': during_deploy(0, 2, 45),
        f"darkroom_dispatcher_beat_seconds{{{WEB}}}": lambda at: 6 if in_deploy(at) == 15 else 0.2,
        f'darkroom_oldest_pending_seconds{{{WEB},type="fitting"}}': lambda at: 4 * tasks_a_minute(at),
        f'darkroom_stuck_tasks{{{WEB},reason="dead_worker"}}': during_deploy(0, 3),
        f"darkroom_last_sweep_timestamp_seconds{{{WEB}}}": lambda at: at - at % 60,
        f'darkroom_unplaceable_tasks{{{WEB},type="fitting"}}': during_deploy(0, 5, 45),
        f"darkroom_listener_up{{{WEB}}}": during_deploy(1, 0),
        f'darkroom_feed_delivery_seconds_bucket{{{WEB},le="0.25"}}': share(20),
        f'darkroom_feed_delivery_seconds_bucket{{{WEB},le="2.0"}}': share(20),
        f'darkroom_feed_delivery_seconds_bucket{{{WEB},le="5.0"}}': share(20.1),
        f'darkroom_feed_delivery_seconds_bucket{{{WEB},le="+Inf"}}': share(20.1),
        f'darkroom_breaker_open_seconds{{{WEB},provider="retouch"}}': lambda at: (
            at - 15 * 3600 if 15 * 3600 <= at < 15 * 3600 + 30 else 0
        ),
        f'darkroom_postponed_total{{{WEB},type="fitting",reason="rate_limited"}}': share(0.3),
        f'darkroom_unmoved_seconds{{{WEB},status="processing"}}': lambda at: at % 280,
        f'darkroom_unmoved_seconds{{{WEB},status="ai_processing"}}': lambda at: at % 1500,
        f"darkroom_deadly_tasks{{{WEB}}}": lambda at: 0,
        f'darkroom_orders_refused_total{{{WEB},reason="queue_full"}}': lambda at: 0,
        f'darkroom_orders_refused_total{{{WEB},reason="no_credits"}}': share(0.05),
        f'darkroom_troubled_users{{{WEB},kind="feed_opened"}}': lambda at: 1 if at % 7200 < 45 else 0,
        f'darkroom_troubled_users{{{WEB},kind="no_credits"}}': lambda at: 1 if at % 600 < 120 else 0,
        f"darkroom_database_full{{{WEB}}}": lambda at: 0,
        f"darkroom_clock_skew_seconds{{{WEB}}}": lambda at: 0.1 if at % 3600 < 60 else 0,
        f"darkroom_oldest_webhook_seconds{{{WEB}}}": lambda at: at % 1800,
        f'{runs}{{{WEB},type="fitting",outcome="failed"}}': share(0.06),
        f'{runs}{{{WEB},type="fitting",outcome="retried"}}': share(0.1),
        f'{runs}{{{WEB},type="fitting",outcome="completed"}}': share(0.94),
        f'darkroom_process_restarts_total{{{WEB},process="web"}}': lambda at: since(at, DEPLOYS),
        f'darkroom_disk_free_bytes{{{WEB},path="files"}}': lambda at: 30e9 - 1e5 * at,
        f'darkroom_disk_size_bytes{{{WEB},path="files"}}': lambda at: 100e9,
    }


@dataclasses.dataclass(frozen=True)
class Fault:
    """The effect of a fault on some series: a function of the usual value and the seconds since the fault began.
    within: seconds from the fault's beginning until the alert fires. brings: other alerts of the same fault.
    """

    alert: str
    series: Mapping[str, Callable[[float, int], float]]
    within: int
    brings: tuple[str, ...] = ()


def becomes(value: float) -> Callable[[float, int], float]:
    return lambda usual, into: value


def grows(by: float = 1.0, start: float = 0.0) -> Callable[[float, int], float]:
    return lambda usual, into: usual + start + by * into


def ages(start: float = 0.0) -> Callable[[float, int], float]:
    return lambda usual, into: start + into


_RUNS = f'darkroom_task_run_seconds_count{{{WEB},type="fitting"'
FAULTS = (
    Fault("DarkroomDown", {f"up{{{WEB}}}": becomes(0)}, 90),
    Fault("DarkroomDatabaseDown", {f"darkroom_database_up{{{WEB}}}": becomes(0)}, 90),
    Fault("DarkroomBrokerDown", {f"darkroom_broker_up{{{WEB}}}": becomes(0)}, 90),
    Fault("DarkroomListenerDown", {f"darkroom_listener_up{{{WEB}}}": becomes(0)}, 90),
    # Frozen at the fault: both count as silent 10 s later, the worker's heartbeats up to 5 s earlier.
    Fault(
        "DarkroomNoWorkers",
        {f'darkroom_workers{{{WEB},state="live"}}': lambda usual, into: usual if into < 15 else 0},
        60,
    ),
    Fault(
        "DarkroomNoWorkerForType", {f'darkroom_unplaceable_tasks{{{WEB},type="fitting"}}': becomes(2)}, 210
    ),
    Fault("DarkroomDatabaseFull", {f"darkroom_database_full{{{WEB}}}": becomes(1)}, 60),
    Fault("DarkroomDispatcherSilent", {f"darkroom_dispatcher_beat_seconds{{{WEB}}}": ages()}, 60),
    Fault("DarkroomQueueOld", {f'darkroom_oldest_pending_seconds{{{WEB},type="fitting"}}': ages()}, 390),
    Fault("DarkroomStuckTasks", {f'darkroom_stuck_tasks{{{WEB},reason="dead_worker"}}': becomes(2)}, 210),
    Fault(
        "DarkroomSweepSilent",
        {f"darkroom_last_sweep_timestamp_seconds{{{WEB}}}": lambda usual, into: usual - into},
        390,
    ),
    Fault(
        "DarkroomFeedLag",
        {
            f'darkroom_feed_delivery_seconds_bucket{{{WEB},le="{le}"}}': lambda usual, into: usual - 2 * into
            for le in ("0.25", "2.0")
        },
        390,
    ),
    Fault("DarkroomBreakerOpen", {f'darkroom_breaker_open_seconds{{{WEB},provider="retouch"}}': ages()}, 90),
    Fault(
        "DarkroomRateLimited",
        {
            f'darkroom_postponed_total{{{WEB},type="fitting",reason="rate_limited"}}': grows(2),
            f'{_RUNS},outcome="completed"}}': lambda usual, into: usual,
        },
        780,
    ),
    Fault(
        "DarkroomTaskUnmoved",
        {f'darkroom_unmoved_seconds{{{WEB},status="ai_processing"}}': ages(1500)},
        420,
    ),
    Fault("DarkroomDeadlyTask", {f"darkroom_deadly_tasks{{{WEB}}}": becomes(1)}, 90),
    Fault(
        "DarkroomQueueFull", {f'darkroom_orders_refused_total{{{WEB},reason="queue_full"}}': grows(0.5)}, 60
    ),
    Fault("DarkroomFeedStorm", {f'darkroom_troubled_users{{{WEB},kind="feed_opened"}}': becomes(1)}, 120),
    Fault("DarkroomClockOff", {f"darkroom_clock_skew_seconds{{{WEB}}}": becomes(-90)}, 90),
    Fault("DarkroomWebhooksLate", {f"darkroom_oldest_webhook_seconds{{{WEB}}}": ages(1800)}, 2190),
    # Every attempt of a type fails, free or not: as many as would have been completed.
    Fault(
        "DarkroomTypeFails",
        {
            f'{_RUNS},outcome="retried"}}': grows(1),
            f'{_RUNS},outcome="completed"}}': lambda usual, into: usual - _since_the_fault(into),
        },
        420,
        brings=("DarkroomTypeFailsSlowly",),
    ),
    Fault(
        "DarkroomTypeFailsSlowly",
        {
            f'{_RUNS},outcome="failed"}}': lambda usual, into: _at_the_fault(0.06) + into // 600,
            f'{_RUNS},outcome="retried"}}': lambda usual, into: _at_the_fault(0.1),
            f'{_RUNS},outcome="completed"}}': lambda usual, into: _at_the_fault(0.94),
        },
        5400,
        brings=("DarkroomRateLimited",),
    ),
    Fault(
        "DarkroomCrashLoop",
        {f'darkroom_process_restarts_total{{{WEB},process="web"}}': grows(1 / 60)},
        420,
    ),
    Fault(
        "DarkroomDiskFull",
        {f'darkroom_disk_free_bytes{{{WEB},path="files"}}': becomes(4096)},
        60,
        brings=("DarkroomDiskLow",),
    ),
    Fault("DarkroomDiskLow", {f'darkroom_disk_free_bytes{{{WEB},path="files"}}': becomes(8e9)}, 360),
)


def _since_the_fault(into: int) -> float:
    at = NOON + FAULT_AT
    return math.floor(0.94 * done_by(at + into)) - math.floor(0.94 * done_by(at))


def _at_the_fault(share: float) -> float:
    return math.floor(share * done_by(NOON + FAULT_AT))


def healthy_day(rule_file: str) -> str:
    """A file for `promtool test rules`: the whole day."""
    return _file(rule_file, MINUTE, [_healthy_day()])


def faulty_afternoons(rule_file: str) -> str:
    """Another: an afternoon for each fault."""
    return _file(rule_file, EVERY, [_faulty_afternoon(fault) for fault in FAULTS])


def _file(rule_file: str, every: int, tests: list[dict[str, object]]) -> str:
    text = yaml({"rule_files": [rule_file], "evaluation_interval": f"{every}s", "tests": tests})
    return text.replace('value: "1"', "value: 1")


def _healthy_day() -> dict[str, object]:
    series = {name: list(_samples(value, 0, DAY, MINUTE)) for name, value in health().items()}
    expected = [{"expr": 'count_over_time(ALERTS{alertstate="firing"}[1d])', "eval_time": "86340s"}]
    return {**_test("a day in health", series, MINUTE), "promql_expr_test": expected}


def _faulty_afternoon(fault: Fault) -> dict[str, object]:
    """Seconds are those since the fault's afternoon began, at noon; the sweep's times too."""

    def spoiled(name: str, value: Value) -> Value:
        change = fault.series.get(name)

        def at(seconds: int) -> float:
            usual, into = value(seconds), seconds - NOON - FAULT_AT
            return usual if change is None or into < 0 else change(usual, into)

        return at

    length = FAULT_AT + fault.within + 60
    series = {
        name: list(_samples(spoiled(name, value), NOON, NOON + length, EVERY))
        for name, value in health().items()
    }
    swept = f"darkroom_last_sweep_timestamp_seconds{{{WEB}}}"
    series[swept] = [each - NOON for each in series[swept]]
    ok = "|".join((fault.alert, *fault.brings))
    others = f'count_over_time(ALERTS{{alertstate="firing",alertname!~"{ok}"}}[4h])'
    own = f'max by (alertname) (ALERTS{{alertstate="firing",alertname="{fault.alert}"}})'
    before, after = FAULT_AT - EVERY, FAULT_AT + fault.within
    fires = [{"labels": f'{{alertname="{fault.alert}"}}', "value": "1"}]
    return {
        **_test(f"{fault.alert} on its day", series, EVERY),
        "promql_expr_test": [
            {"expr": own, "eval_time": f"{before}s"},
            {"expr": own, "eval_time": f"{after}s", "exp_samples": fires},
            {"expr": others, "eval_time": f"{length - EVERY}s"},
        ],
    }


def _test(name: str, series: Mapping[str, list[float]], every: int) -> dict[str, object]:
    told = [{"series": each, "values": _runs(values)} for each, values in series.items()]
    return {"name": name, "interval": f"{every}s", "input_series": told}


def _samples(value: Value, start: int, end: int, every: int) -> Iterator[float]:
    return (value(at) for at in range(start, end, every))


def _runs(values: list[float]) -> str:
    """promtool's notation: a value that stays, or moves evenly, is written once."""
    written, at = [], 0
    while at < len(values):
        step = values[at + 1] - values[at] if at + 1 < len(values) else 0.0
        end = at + 1
        while end < len(values) and abs(values[end] - values[end - 1] - step) < 1e-9:
            end += 1
        sign = "-" if step < 0 else "+"
        written.append(f"{values[at]:.10g}{sign}{abs(step):.10g}x{end - at - 1}")
        at = end
    return " ".join(written)
