"""What Prometheus Operator needs: where it scrapes web, and the alerts."""

from __future__ import annotations

from typing import Any

from supervisor.kubernetes.pods import Object, labels, metadata
from supervisor.kubernetes.values import Values


def service_monitor(values: Values) -> Object:
    """Prometheus Operator's; the job is called darkroom, as the alerts want it."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(values, "web", "web"),
        "spec": {
            "jobLabel": "app.kubernetes.io/name",
            "selector": {"matchLabels": labels(values, "web")},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }


def prometheus_rule(values: Values, groups: list[Any]) -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(values, "alerts", "alerts"),
        "spec": {"groups": groups},
    }
