"""The manifests of `darkroom kubernetes` among each other: what one object names, another one is.

Kubernetes' schemas hold each object alone, and its API server accepts most references to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.cli.kubernetes import EXAMPLES, _dumped, rendered
from tests.cli.kubernetes.example_objects import SOURCES, of_kind, pods

Object = dict[str, Any]


def deployments(example: str) -> dict[str, Object]:
    return of_kind(example, "Deployment")


def labelled(example: str, selector: Object) -> list[str]:
    """The names of the Deployments and Jobs whose pods have these labels."""
    wanted = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", [])
    return [
        name
        for name, pod in pods(example).items()
        if wanted <= pod["metadata"]["labels"].items()
        and all(pod["metadata"]["labels"].get(each["key"]) in each["values"] for each in among)
    ]


def ports(pod: Object) -> dict[str, int]:
    (container,) = pod["spec"]["containers"]
    return {each["name"]: each["containerPort"] for each in container.get("ports", [])}


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_deployment_and_each_budget_selects_the_pods_of_one_deployment(example: str) -> None:
    for name, deployment in deployments(example).items():
        assert labelled(example, deployment["spec"]["selector"]) == [name]
    for name, budget in of_kind(example, "PodDisruptionBudget").items():
        assert labelled(example, budget["spec"]["selector"]) == [name]


@pytest.mark.parametrize("example", EXAMPLES)
def test_requests_find_their_way_through_ingress_and_service_to_a_port_of_web(example: str) -> None:
    (service,) = of_kind(example, "Service").values()
    (target,) = labelled(example, {"matchLabels": service["spec"]["selector"]})
    (port,) = service["spec"]["ports"]
    pod = pods(example)[target]
    assert port["targetPort"] in ports(pod)
    for ingress in of_kind(example, "Ingress").values():
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert (backend["name"], backend["port"]["name"]) == (service["metadata"]["name"], port["name"])
    for monitor in of_kind(example, "ServiceMonitor").values():
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert wanted <= service["metadata"]["labels"].items()
        assert [each["port"] for each in monitor["spec"]["endpoints"]] == [port["name"]]
    policies = of_kind(example, "NetworkPolicy")
    allowed = [
        (labelled(example, each["spec"]["podSelector"]), rule["ports"][0]["port"])
        for each in policies.values()
        for rule in each["spec"].get("ingress", [])
    ]
    assert allowed == [([target], ports(pod)[port["targetPort"]])] * bool(policies)


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_pod_mounts_volumes_that_it_has_and_asks_at_ports_that_it_opens(example: str) -> None:
    files = set(of_kind(example, "ConfigMap"))
    for pod in pods(example).values():
        (container,) = pod["spec"]["containers"]
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        assert {each["name"] for each in container["volumeMounts"]} == set(volumes)
        assert {each["configMap"]["name"] for each in volumes.values() if "configMap" in each} <= files
        probes = [container[each] for each in container if each.endswith("Probe")]
        asked = {probe["httpGet"]["port"] for probe in probes if "httpGet" in probe}
        assert asked <= set(ports(pod))


@pytest.mark.parametrize("example", EXAMPLES)
def test_keda_scales_deployments_that_exist_and_state_no_number_of_replicas(example: str) -> None:
    there = deployments(example)
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(example, "ScaledObject").values()}
    assert scaled == {name for name, each in there.items() if "replicas" not in each["spec"]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_pod_gets_variables_of_services(example: str) -> None:
    assert {pod["spec"]["enableServiceLinks"] for pod in pods(example).values()} == {False}


def test_each_change_of_the_migrating_pod_is_another_job(tmp_path: Path) -> None:
    """Kubernetes refuses to change the pod of a Job that exists: "field is immutable"."""
    text = (SOURCES / "small" / "values.toml").read_text()
    changes = {
        "nothing": text,
        "image": text.replace("darkroom:0.2.0", "darkroom:0.2.1"),
        "setting": text.replace("[settings]", '[settings]\nDARKROOM_LOG_LEVEL = "debug"'),
    }
    names = set()
    for name, changed in changes.items():
        (tmp_path / f"{name}.toml").write_text(changed)
        names.add(of_job(rendered(tmp_path / f"{name}.toml")["migrate.yaml"]))
    assert len(names) == len(changes)
    assert of_job(rendered(tmp_path / "nothing.toml")["migrate.yaml"]) in names


def of_job(text: str) -> str:
    return str(yaml.safe_load(text)["metadata"]["name"])


TEXTS = st.text("a:#|>-'\"{}\\%&*!?@` \t\n\r\u0085\u2028é字\x7f\x00", max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS)
def test_a_file_comes_out_of_a_config_map_as_it_went_in(text: str) -> None:
    assert yaml.safe_load(_dumped(yaml, {text: text})) == {text: text}


def test_a_file_keeps_its_lines() -> None:
    assert _dumped(yaml, {"a.toml": '[tasks]\n\na = "b"\n'}) == 'a.toml: |\n  [tasks]\n\n  a = "b"\n'
