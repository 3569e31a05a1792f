"""What Prometheus and Grafana are told about Darkroom, described once.

`alerts`, `recordings` and `panels` are the description.  `python -m metrics.monitoring` writes `metrics/alerts.yml`,
its tests and `metrics/grafana/darkroom.json` from it, and a test says when those are stale.  So a metric that is
renamed can't be forgotten in a panel, and an alert without a runbook or an example does not come to be.

What the database tells is told alike by every web process, so expressions take the `max` of it over instances before
they add anything up; what a process counts of itself is summed.
"""
