"""The description for Prometheus: a rule file, and a file of tests for `promtool test rules`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from metrics.monitoring.alerts import ALERTS
from metrics.monitoring.recordings import RECORDINGS
from metrics.monitoring.shapes import AFTER_MINUTES, Alert, Series, at_pace

RULE_FILE = "alerts.yml"
HEAD = "# Written by `python -m metrics.monitoring` from the description in metrics/monitoring/; change it there.\n"
EVERY_SECONDS = 15


def rules(pace: float = 1.0) -> str:
    """The rule file.  pace: the factor by which all times are shortened, for tests."""
    recording = [{"record": each.record, "expr": at_pace(each.expr, pace)} for each in RECORDINGS]
    alerting = [_alerting(each, pace) for each in ALERTS]
    interval = at_pace(f"<{EVERY_SECONDS}s>", pace)
    # The rules of one group run in order, so an alert reads the values that the same round recorded.  Groups run in
    # parallel and in any order: an alert of another group might read values of 15 seconds ago.
    groups = [{"name": "darkroom", "interval": interval, "rules": [*recording, *alerting]}]
    return HEAD + yaml({"groups": groups})


def rule_tests() -> str:
    """Each alert's examples, for promtool: silent in health, firing by its fault.  RULE_FILE is beside the tests."""
    tests = []
    for alert in ALERTS:
        tests.append(_test(alert, f"{alert.name} is silent in health", alert.healthy, fires=False))
        tests.append(_test(alert, f"{alert.name} fires by its fault", alert.faulty, fires=True))
    return HEAD + yaml(
        {"rule_files": [RULE_FILE], "evaluation_interval": f"{EVERY_SECONDS}s", "tests": tests}
    )


def _alerting(alert: Alert, pace: float) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": at_pace(alert.expr, pace),
        "for": at_pace(f"<{alert.hold}>", pace),
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook_url": alert.runbook_url},
    }


def _test(alert: Alert, name: str, series: Series, *, fires: bool) -> dict[str, Any]:
    labels = {**alert.labels, "severity": alert.severity}
    expected: dict[str, Any] = {"eval_time": f"{AFTER_MINUTES}m", "alertname": alert.name}
    if fires:
        told = {"summary": alert.told, "runbook_url": alert.runbook_url}
        expected["exp_alerts"] = [{"exp_labels": labels, "exp_annotations": told}]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [expected],
    }


def yaml(value: Any, depth: int = 0) -> str:
    """Block-style YAML of dicts, lists and strings; every string is quoted as in JSON, which YAML can read."""
    pad = "  " * depth
    match value:
        case Mapping():
            return "".join(f"{pad}{key}:{_after_key(each, depth)}" for key, each in value.items())
        case str():
            return f"{pad}{json.dumps(value, ensure_ascii=False)}\n"
        case Sequence():
            return "".join(pad + "- " + yaml(each, depth + 1)[len(pad) + 2 :] for each in value)
    raise TypeError(f"{type(value).__name__} has no place in a rule file.")


def _after_key(value: Any, depth: int) -> str:
    return " " + yaml(value) if isinstance(value, str) else "\n" + yaml(value, depth + 1)
