"""What runs in pods: a Deployment for each part, and the Job that migrates.

The probes are of freshness: web answers on its own event loop; each other part beats into a file from the loop that
does its work (`supervisor.processes.beat_check`), so a frozen one is found and an outage of the database kills nobody.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from config.settings import Settings
from supervisor.kubernetes.values import Part, Pool, Toleration, Values, variables

Object = dict[str, Any]

USER = 10001
PORT = 8000
CONFIG, DATA, BEAT = "/etc/darkroom", "/var/lib/darkroom", "/run/darkroom"
SILENT_SECONDS = 30  # a part beats every 2 s
PART_STOP_SECONDS = 30  # for parts without work to finish
# Without one of them a part would begin with a file in its scratch volume: the pod must not start.
REQUIRED = ("DARKROOM_DATABASE_URL", "DARKROOM_BROKER_URL", "DARKROOM_STORAGE_URL", "DARKROOM_SECRET")
# Endpoints are told of a pod's end while it is being stopped; until they have heard of it, clients still come.
LEAVE_SECONDS = 5


def labels(values: Values, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "darkroom",
        "app.kubernetes.io/instance": values.name,
        "app.kubernetes.io/component": component,
    }


def metadata(values: Values, name: str, component: str) -> Object:
    return {"name": f"{values.name}-{name}", "labels": labels(values, component)}


def worker_stop_seconds(settings: Settings) -> int:
    """DRAIN_SECONDS, the longest answer to a paid request that must not be sent twice, and the end of the process."""
    unrepeatable = [each.ai_timeout_seconds for each in settings.tasks.values()]
    return math.ceil(settings.drain_seconds + max(unrepeatable, default=0.0) + PART_STOP_SECONDS)


def config_map(values: Values, files: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(values, "files", "config"),
        "data": files,
    }


def migrate_job(values: Values, files: dict[str, str]) -> Object:
    """Its name changes with whatever is in its pod, because Kubernetes refuses a change of a Job that exists."""
    pod = _pod(values, files, "migrate", ["migrate"], Part(cpu="100m", memory="256Mi"), {}, stop_seconds=30)
    pod["spec"]["restartPolicy"] = "OnFailure"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(values, f"migrate-{_checksum(pod)[:8]}", "migrate"),
        "spec": {"backoffLimit": 10, "ttlSecondsAfterFinished": 86_400, "template": pod},
    }


def web(values: Values, files: dict[str, str]) -> Object:
    probe = {"periodSeconds": 5, "timeoutSeconds": 5}
    more = {
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": {"httpGet": {"path": "/healthz", "port": "http"}, **probe, "failureThreshold": 24},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, **probe, "failureThreshold": 6},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, **probe, "failureThreshold": 2},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}},
    }
    pod = _pod(
        values, files, "web", ["web"], values.web, more, stop_seconds=LEAVE_SECONDS + PART_STOP_SECONDS
    )
    return _deployment(values, "web", "web", values.web, pod, gentle=True)


def part(values: Values, files: dict[str, str], name: str, of: Part) -> Object:
    """dispatcher, or scheduler."""
    pod = _pod(values, files, name, [name], of, _beat_probes(), stop_seconds=PART_STOP_SECONDS)
    return _deployment(values, name, name, of, pod, gentle=True)


def pool(values: Values, settings: Settings, files: dict[str, str], name: str, of: Pool) -> Object:
    """A pool of workers.  One that KEDA scales has no number of replicas, which each apply would set back."""
    more = _beat_probes()
    more["env"] = _variables(
        {"DARKROOM_WORKER_THREADS": str(of.threads)}
        | ({"DARKROOM_WORKER_TYPES": ",".join(of.types)} if of.types else {})
        | {f"DARKROOM_WORKER_OFFERS__{offer}": str(amount) for offer, amount in sorted(of.offers.items())}
    )
    pod = _pod(
        values, files, f"worker-{name}", ["worker"], of, more, stop_seconds=worker_stop_seconds(settings)
    )
    spec = pod["spec"]
    limits = spec["containers"][0]["resources"]["limits"]
    limits.update({device: str(amount) for device, amount in sorted(of.devices.items())})
    for key, value in (
        ("nodeSelector", of.node_selector),
        ("tolerations", [_toleration(each) for each in of.tolerations]),
        ("runtimeClassName", of.runtime_class),
    ):
        if value:
            spec[key] = value
    # A device that every node holds once has no room for a worker more.
    made = _deployment(values, f"worker-{name}", f"worker-{name}", of, pod, gentle=not of.devices)
    if of.scale is not None:
        del made["spec"]["replicas"]
    return made


def budget(values: Values, component: str) -> Object:
    """While nodes are emptied, at most one pod of a part is down."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(values, component, component),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels(values, component)}},
    }


def _toleration(of: Toleration) -> Object:
    """With nothing that Kubernetes takes by itself."""
    made = {
        "key": of.key,
        "operator": of.operator,
        "value": of.value,
        "effect": of.effect,
        "tolerationSeconds": of.toleration_seconds,
    }
    return {name: value for name, value in made.items() if value not in ("", None)}


def _deployment(values: Values, name: str, component: str, of: Part, pod: Object, *, gentle: bool) -> Object:
    """gentle: the new pod is ready before an old one goes."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(values, name, component),
        "spec": {
            "replicas": of.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": labels(values, component)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}
                if gentle
                else {"maxSurge": 0, "maxUnavailable": 1},
            },
            "template": pod,
        },
    }


def _pod(
    values: Values,
    files: dict[str, str],
    component: str,
    command: list[str],
    of: Part,
    more: Object,
    *,
    stop_seconds: int,
) -> Object:
    same = labels(values, component)
    limits = {"memory": of.memory}
    env = _variables(
        {
            "DARKROOM_CONFIG": f"{CONFIG}/{values.settings_file}" if values.settings_file else "",
            "DARKROOM_DATA_DIR": DATA,
            "DARKROOM_HOST": "0.0.0.0",
            "DARKROOM_PORT": str(PORT),
            "DARKROOM_URL": values.url,
            "DARKROOM_DEMO_USER": "false",
            "DARKROOM_LOG_FORMAT": "json",
            "SUPERVISOR_BEAT_FILE": f"{BEAT}/beat",
        }
        | variables(values)
    ) + [_from_secret(values, name) for name in REQUIRED if name not in values.settings]
    container = {
        "name": "darkroom",
        "image": values.image,
        "imagePullPolicy": values.pull_policy,
        "args": command,
        **more,
        "env": [*env, *more.get("env", [])],
        "envFrom": [{"secretRef": {"name": values.secret}}],
        "resources": {"requests": {"cpu": of.cpu, "memory": of.memory}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "beat", "mountPath": BEAT},
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
        ],
    }
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # else a Service named darkroom-… adds variables that look like settings
        "terminationGracePeriodSeconds": stop_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": same},
            }
        ],
        "containers": [container],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "beat", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "config", "configMap": {"name": f"{values.name}-files"}},
        ],
    }
    if values.service_account:
        spec["serviceAccountName"] = values.service_account
    if values.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in values.pull_secrets]
    # A change of the files starts the pods anew, because they read the files once.
    return {"metadata": {"labels": same, "annotations": {"darkroom/files": _checksum(files)}}, "spec": spec}


def _beat_probes() -> Object:
    check = {"exec": {"command": ["python", "-m", "supervisor.processes.beat_check", str(SILENT_SECONDS)]}}
    probe = {**check, "periodSeconds": 10, "timeoutSeconds": 10}
    return {
        "startupProbe": {**probe, "failureThreshold": 12},
        "livenessProbe": {**probe, "failureThreshold": 2},
    }


def _variables(environ: dict[str, str]) -> list[Object]:
    """Kubernetes puts another variable in the place of $(NAME), and $ in the place of $$: $$ is what it takes for $."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in environ.items()]


def _from_secret(values: Values, name: str) -> Object:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": values.secret, "key": name}}}


def _checksum(of: Object) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]
