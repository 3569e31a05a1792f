"""The dashboard as JSON for Grafana, with variables for data source, job and task type."""

from __future__ import annotations

from typing import Any

from metrics.monitoring.panels import ROWS
from metrics.monitoring.shapes import Number, Panel, at_pace, selected

SCHEMA_VERSION = 39  # Grafana 10.4 and later read it
WIDTH = 24
SIZE = {Number: (3, 4), Panel: (8, 8)}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "uid": "darkroom",
        "title": "Darkroom",
        "tags": ["darkroom"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    every = {"text": "All", "value": "$__all"}
    chosen = {"multi": True, "includeAll": True, "allValue": ".*", "current": every, "refresh": 2, "sort": 1}
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _asked("job", "Job", "label_values(darkroom_database_up, job)", chosen),
        _asked("type", "Task type", 'label_values(darkroom_tasks{job=~"$job"}, type)', chosen),
    ]


def _asked(name: str, label: str, query: str, chosen: dict[str, Any]) -> dict[str, Any]:
    asked = {"query": query, "refId": name}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": asked,
        "definition": query,
        **chosen,
    }


def _panels() -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    top = 0
    for row in ROWS:
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            }
        )
        top, left, deepest = top + 1, 0, 0
        for panel in row.panels:
            width, height = SIZE[type(panel)]
            if left + width > WIDTH:
                top, left, deepest = top + deepest, 0, 0
            place = {"x": left, "y": top, "w": width, "h": height}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_panel(panel)})
            left, deepest = left + width, max(deepest, height)
        top += deepest
    return placed


def _panel(panel: Panel | Number) -> dict[str, Any]:
    is_number = isinstance(panel, Number)
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": at_pace(selected(expr)),
            "legendFormat": legend or "__auto",
            "instant": is_number,
            "range": not is_number,
        }
        for number, (legend, expr) in enumerate(panel.lines.items())
    ]
    options: dict[str, Any] = {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"showLegend": True}}
    if is_number:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"}
    return {
        "type": "stat" if is_number else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "targets": targets,
        "options": options,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, **_thresholds(panel)}, "overrides": []},
    }


def _thresholds(panel: Panel | Number) -> dict[str, Any]:
    if isinstance(panel, Panel):
        return {}
    low, high = ("red", "green") if panel.red_below else ("green", "red")
    steps = [{"color": low, "value": None}, {"color": high, "value": panel.red}]
    return {"thresholds": {"mode": "absolute", "steps": steps}}
