"""The first scrape has all the names of docs/operating.md, and their label sets are closed."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from metrics.catalogue import CALL_ENDS, families_of_the_database
from metrics.database_collector import DatabaseCollector
from supervisor.core.rescue import Reason
from supervisor.database.interface.database import Database
from supervisor.store.counters import counters
from tests.support.houses.metrics_shop import Shop, Told, open_shop

CONTRACT = {
    "darkroom_tasks": "gauge",
    "darkroom_queue_depth": "gauge",
    "darkroom_oldest_pending_seconds": "gauge",
    "darkroom_stuck_tasks": "gauge",
    "darkroom_running_tasks": "gauge",
    "darkroom_worker_slots": "gauge",
    "darkroom_workers": "gauge",
    "darkroom_last_sweep_timestamp_seconds": "gauge",
    "darkroom_rescues_total": "counter",
    "darkroom_tasks_finished_total": "counter",
    "darkroom_task_wait_seconds": "histogram",
    "darkroom_task_run_seconds": "histogram",
    "darkroom_step_run_seconds": "histogram",
    "darkroom_ai_call_seconds": "histogram",
    "darkroom_refunds_total": "counter",
    "darkroom_feed_clients": "gauge",
    "darkroom_feed_events_total": "counter",
    "darkroom_feed_delivery_seconds": "histogram",
    "darkroom_listener_up": "gauge",
    "darkroom_process_restarts_total": "counter",
    "darkroom_http_request_seconds": "histogram",
    "darkroom_webhooks": "gauge",
    "darkroom_oldest_webhook_seconds": "gauge",
    "darkroom_webhook_deliveries_total": "counter",
}
BEYOND_THE_CONTRACT = {
    "darkroom_breaker_open_seconds": "gauge",
    "darkroom_clock_skew_seconds": "gauge",
    "darkroom_deadly_tasks": "gauge",
    "darkroom_feeds_opened_total": "counter",
    "darkroom_loop_failures_total": "counter",
    "darkroom_orders_refused_total": "counter",
    "darkroom_postponed_total": "counter",
    "darkroom_troubled_users": "gauge",
    "darkroom_unmoved_seconds": "gauge",
    "darkroom_silent_workers": "gauge",
    "darkroom_worker_beat_seconds": "gauge",
    "darkroom_dispatcher_beat_seconds": "gauge",
    "darkroom_database_full": "gauge",
    "darkroom_database_up": "gauge",
    "darkroom_database_roundtrip_seconds": "gauge",
    "darkroom_broker_up": "gauge",
    "darkroom_broker_roundtrip_seconds": "gauge",
    "darkroom_provider_up": "gauge",
    "darkroom_breaker_state": "gauge",
    "darkroom_dispatch_lag_seconds": "histogram",
    "darkroom_credits_total": "counter",
    "darkroom_ai_cost_total": "counter",
    "darkroom_claims_refused_total": "counter",
    "darkroom_disk_free_bytes": "gauge",
    "darkroom_disk_size_bytes": "gauge",
    "darkroom_process_up": "gauge",
    "darkroom_offers": "gauge",
    "darkroom_needed": "gauge",
    "darkroom_needed_oldest_pending_seconds": "gauge",
    "darkroom_unplaceable_tasks": "gauge",
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path) as shop:
        yield shop


def sets(**labels: tuple[str, ...]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(zip(labels, values, strict=True)) for values in itertools.product(*labels.values())}


def test_every_name_has_help_and_type_at_the_first_scrape(shop: Shop) -> None:
    told = shop.scrape()
    assert told.types == CONTRACT | BEYOND_THE_CONTRACT
    assert set(told.helped) == set(told.types)
    assert all(help_.endswith(".") for help_ in told.helped.values())


def test_no_series_comes_beside_the_names(shop: Shop) -> None:
    """prometheus_client would add a `_created` gauge to every counter and histogram."""
    assert "_created" not in shop.scrape().text


def test_every_known_label_set_starts_at_0(shop: Shop) -> None:
    told = shop.scrape()
    types, ends = ("photography", "fitting"), ("completed", "failed", "cancelled")
    expected = {
        "darkroom_tasks": sets(type=types, status=("pending", "processing", "ai_processing")),
        "darkroom_queue_depth": sets(type=types),
        "darkroom_oldest_pending_seconds": sets(type=types),
        "darkroom_stuck_tasks": sets(reason=("dead_worker", "deadline", "undelivered", "remote_overdue")),
        "darkroom_running_tasks": sets(type=types),
        "darkroom_worker_slots": sets(state=("busy", "free", "draining")),
        "darkroom_workers": sets(state=("live", "draining", "dead")),
        "darkroom_silent_workers": {frozenset()},
        "darkroom_worker_beat_seconds": sets(worker=("youngest", "oldest")),
        "darkroom_last_sweep_timestamp_seconds": {frozenset()},
        "darkroom_rescues_total": sets(
            action=("released", "retried", "failed"), reason=tuple(reason.value for reason in Reason)
        ),
        "darkroom_tasks_finished_total": sets(type=types, outcome=ends),
        "darkroom_task_wait_seconds_count": sets(type=types),
        "darkroom_task_run_seconds_count": sets(
            type=types, outcome=(*ends, "retried", "postponed", "released")
        ),
        "darkroom_ai_call_seconds_count": sets(provider=("studio",), outcome=CALL_ENDS),
        "darkroom_refunds_total": {frozenset()},
        "darkroom_webhooks": sets(state=("waiting", "sending")),
        "darkroom_oldest_webhook_seconds": {frozenset()},
        "darkroom_webhook_deliveries_total": sets(outcome=("delivered", "delayed", "failed", "gone")),
        "darkroom_credits_total": sets(kind=("grant", "debit", "refund")),
        "darkroom_dispatch_lag_seconds_count": {frozenset()},
        "darkroom_claims_refused_total": {frozenset()},
    }
    for name, label_sets in expected.items():
        assert told.label_sets(name) == label_sets, name
        assert not told.nonzero(name), name


def test_types_and_providers_of_the_settings_are_known(tmp_path: Path) -> None:
    settings = {
        "providers": {"swift": {"kind": "studio"}},
        "tasks": {"poster": {"provider": "swift"}},
    }
    with open_shop(tmp_path, **settings) as shop:
        told = shop.scrape()
    assert told("darkroom_tasks", type="poster", status="pending") == 0
    assert told("darkroom_ai_call_seconds_count", provider="swift", outcome="done") == 0


def test_a_type_of_no_setting_makes_no_series_of_its_own(shop: Shop) -> None:
    for number in range(3):
        shop.sql(
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('o', ?, '{}')", f"made-up-{number}"
        )
        shop.write(
            lambda tx, n=number: counters.count(
                tx, "darkroom_tasks_finished_total", type=f"x{n}", outcome="failed"
            )
        )
    told = shop.scrape()
    assert "made-up" not in told.text
    assert told("darkroom_tasks", type="OTHER", status="pending") == 3
    assert told("darkroom_queue_depth", type="OTHER") == 3
    assert told("darkroom_tasks_finished_total", type="OTHER", outcome="failed") == 3


def test_an_unknown_outcome_counts_as_an_error(shop: Shop) -> None:
    for outcome in ("novel", "error"):
        shop.write(
            lambda tx, o=outcome: counters.observe(
                tx, "darkroom_ai_call_seconds", 2.0, provider="studio", outcome=o
            )
        )
    told = shop.scrape()
    assert told("darkroom_ai_call_seconds_count", provider="studio", outcome="error") == 2
    assert told("darkroom_ai_call_seconds_sum", provider="studio", outcome="error") == 4.0
    assert "novel" not in told.text


def test_describing_asks_no_database(shop: Shop) -> None:
    no_database = cast(Database, object())  # whatever is asked of it fails
    described = list(DatabaseCollector(no_database, shop.settings).describe())
    assert len(described) == 4 + len(families_of_the_database(shop.settings))  # up, full, skew and roundtrip
    assert not any(metric.samples for metric in described)


@pytest.mark.system
def test_promtool_finds_nothing_to_complain_of(shop: Shop) -> None:
    shop.worker()
    shop.completed_task()
    shop.failed_task()
    (shop.settings.data_dir / "processes.json").write_text('{"processes": [{"name": "web", "restarts": 2}]}')
    told: Told = shop.scrape()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=told.text, text=True, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
