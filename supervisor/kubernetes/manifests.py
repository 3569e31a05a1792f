"""All manifests of a system, by file, with a kustomization.yaml that makes the folder a Kustomize base."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.kubernetes import monitoring, network, pods
from supervisor.kubernetes.pods import Object
from supervisor.kubernetes.scaling import scaled_object
from supervisor.kubernetes.values import Values

KUSTOMIZATION = "kustomization.yaml"


def manifests(
    values: Values, settings: Settings, files: dict[str, str], alert_groups: list[Any]
) -> dict[str, list[Object]]:
    """The objects, by the name of their file, in the order in which a newcomer reads them."""
    made: dict[str, list[Object]] = {
        "files.yaml": [pods.config_map(values, files)],
        "migrate.yaml": [pods.migrate_job(values, files)],
        "web.yaml": [pods.web(values, files), network.service(values), pods.budget(values, "web")],
        "dispatcher.yaml": [
            pods.part(values, files, "dispatcher", values.dispatcher),
            pods.budget(values, "dispatcher"),
        ],
        "scheduler.yaml": [pods.part(values, files, "scheduler", values.scheduler)],
    }
    if values.web.host:
        made["web.yaml"].insert(2, network.ingress(values))
    for name, pool in values.workers.items():
        objects = [pods.pool(values, settings, files, name, pool), pods.budget(values, f"worker-{name}")]
        if pool.scale is not None:
            objects.append(scaled_object(values, settings, name, pool))
        made[f"worker-{name}.yaml"] = objects
    if values.network.policies:
        made["network.yaml"] = network.network_policies(values)
    watched = [monitoring.service_monitor(values)] if values.monitoring.service_monitor else []
    if values.monitoring.rules:
        watched.append(monitoring.prometheus_rule(values, alert_groups))
    if watched:
        made["monitoring.yaml"] = watched
    base = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(made)}
    return {KUSTOMIZATION: [base], **made}
