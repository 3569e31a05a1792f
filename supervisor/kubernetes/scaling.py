"""The number of workers of a pool: KEDA's ScaledObject, from two figures that every web shows on /metrics.

By *work*: (tasks due + tasks being processed) ÷ USED × what one worker runs at a time, rounded up.  Tasks that are
processed count too, else a pool whose workers are all busy and whose queue is empty would be shrunk.
By *waiting*: workers now × (age of the oldest due task ÷ wait_seconds), rounded up.  KEDA takes the larger.

A type that a service works on (*ai_processing*) holds no slot and counts in neither.  Every web shows the same figures,
since they are the database's: hence `max by (type)` and no sum over webs.
"""

from __future__ import annotations

import math

from config.settings import Settings
from supervisor.kubernetes.pods import Object, metadata
from supervisor.kubernetes.values import Pool, Values, capacity, takers

USED = 0.8  # the used share of the slots above which another worker is added


def tasks_per_worker(pool: Pool, types: list[str], settings: Settings) -> int:
    """How many tasks, due or processed, a pool has for each of its workers."""
    return max(1, math.floor(USED * capacity(pool, types, settings)))


def scaled_object(values: Values, settings: Settings, name: str, pool: Pool) -> Object:
    assert pool.scale is not None
    types = takers(values, settings, name)
    which = f'job="darkroom",type=~"{"|".join(types)}"'
    work = (
        f"sum(max by (type) (darkroom_queue_depth{{{which}}}))"
        f' + sum(max by (type) (darkroom_tasks{{{which},status="processing"}}))'
    )
    waiting = f"max(darkroom_oldest_pending_seconds{{{which}}})"
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(values, f"worker-{name}", f"worker-{name}"),
        "spec": {
            "scaleTargetRef": {"name": f"{values.name}-worker-{name}"},
            "minReplicaCount": pool.scale.fewest,
            "maxReplicaCount": pool.scale.most,
            "pollingInterval": 15,
            "cooldownPeriod": 300,
            "advanced": {
                "horizontalPodAutoscalerConfig": {
                    "behavior": {
                        # A worker that is removed drains first, which takes minutes; so a short lull removes none.
                        "scaleDown": {
                            "stabilizationWindowSeconds": 300,
                            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                        }
                    }
                }
            },
            "triggers": [
                _trigger(values, work, str(tasks_per_worker(pool, types, settings)), "AverageValue"),
                _trigger(values, waiting, f"{pool.scale.wait_seconds:g}", "Value"),
            ],
        },
    }


def _trigger(values: Values, query: str, threshold: str, metric_type: str) -> Object:
    """One trigger of KEDA.  While Prometheus does not answer, the number of workers stays as it is."""
    return {
        "type": "prometheus",
        "metricType": metric_type,
        "metadata": {
            "serverAddress": values.monitoring.prometheus,
            "query": query,
            "threshold": threshold,
            "activationThreshold": "0",
            "ignoreNullValues": "false",
        },
    }
