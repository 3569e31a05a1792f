"""Rules, alerts and dashboards for Prometheus and Grafana, described once.

`alerts`, `recordings` and `panels` are the description.  `python -m metrics.monitoring` writes `metrics/alerts.yml`,
its tests and `metrics/grafana/darkroom.json` from it, and a test says when those are stale.  So a panel can't keep the
old name of a metric, and no alert can lack its runbook and its examples.

Every web process exports the same metrics of the database, so expressions take the `max` over instances before they add
anything up; a process's own counters are summed.
"""
