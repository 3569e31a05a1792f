"""The values of `darkroom kubernetes`: a sentence about each wrong one, and what passes is what Kubernetes takes."""

from __future__ import annotations

import copy
import ipaddress
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.cli.base import WrongUsage
from supervisor.cli.kubernetes import kubernetes, rendered

SOURCES = Path(__file__).parents[3] / "supervisor" / "kubernetes" / "examples"
OF_OPERATORS = ("ServiceMonitor", "PrometheusRule", "ScaledObject", "Kustomization")


def in_toml(value: Any) -> str:
    """A value as it stands in TOML; a table in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {in_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def values_file(folder: Path, example: str, place: str, value: Any) -> Path:
    """The example with another value at a place such as workers.gpu.tolerations.0.key."""
    shutil.copytree(SOURCES / example, folder, dirs_exist_ok=True)
    path = folder / "values.toml"
    table = tomllib.loads((SOURCES / example / "values.toml").read_text())
    here: Any = table
    *above, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    for part in above:
        here = here[part] if isinstance(here, list) else here.setdefault(part, {})
    here[last] = value
    path.write_text("\n".join(f"{json.dumps(name)} = {in_toml(each)}" for name, each in table.items()))
    return path


@pytest.fixture
def said(tmp_path: Path) -> Callable[[str, str, Any], str]:
    """What the command says of an example with one other value."""

    def run(example: str, place: str, value: Any) -> str:
        done: Result = CliRunner().invoke(kubernetes, [str(values_file(tmp_path, example, place, value))])
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output and done.output.count("\n") == 1
        return done.output.replace(f" in {tmp_path}/values.toml", "")

    return run


LONG = "x" * 64
SHA = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("example", "place", "value", "says"),
    [
        (
            "small",
            "image",
            "registry.example.com/dark room:0.2.0",
            "'registry.example.com/dark room:0.2.0', but may be an image",
        ),
        ("small", "image", "registry.example.com/Darkroom:0.2.0", "an image in small letters"),
        ("small", "image", "darkroom", "'darkroom', but may be an image in small letters with a version"),
        ("small", "image", "darkroom:latest", "not latest"),
        ("small", "image", "darkroom@sha256:00", "or a digest"),
        ("small", "image", 7, "image is 7, but may be an image"),
        (
            "small",
            "pull_secrets",
            ["a secret"],
            "pull_secrets.0 is 'a secret', but may be the name of an object",
        ),
        (
            "small",
            "service_account",
            "a b",
            "service_account is 'a b', but may be empty, or the name of an object",
        ),
        ("small", "secret", "Dark", "secret is 'Dark', but may be the name of an object"),
        ("small", "name", "x" * 41, "up to 40 characters"),
        (
            "small",
            "url",
            "https://dark_room.example",
            "'https://dark_room.example', but may be http:// or https://, a host",
        ),
        ("small", "url", "https://darkroom.example/path", "a host, and perhaps a port"),
        (
            "small",
            "url",
            "https://ann:sesame@darkroom.example",
            "'https://ann:***@darkroom.example', but may be http",
        ),
        (
            "small",
            "settings/DARKROOM_LOG_LEVEL",
            [1],
            "settings.DARKROOM_LOG_LEVEL is [1], but may be text, a number",
        ),
        (
            "small",
            "settings/DARKROOM_LOG LEVEL",
            "info",
            "settings names 'DARKROOM_LOG LEVEL', but a name there may",
        ),
        ("small", "settings/DARKROOM_TITLE", "a\0b", "settings.DARKROOM_TITLE"),
        (
            "small",
            "settings_file",
            "../darkroom.toml",
            "settings_file is '../darkroom.toml', but may be empty, or the name",
        ),
        ("small", "files", ["..data"], "files.0 is '..data', but may be the name of a file"),
        (
            "small",
            "web/host",
            "https://darkroom.example.com",
            "is 'https://darkroom.example.com', but may be empty, or the name of a host",
        ),
        ("small", "web/host", "darkroom.example.com:80", "web.host is 'darkroom.example.com:80'"),
        ("small", "web/host", "dark room", "web.host is 'dark room', but may be"),
        ("small", "web/host", "", "web: ingress_class is 'nginx', but may be set only beside the host"),
        ("small", "web/tls_secret", "my tls", "web.tls_secret is 'my tls', but may be empty, or the name"),
        ("small", "web/hosts", ["a"], "web.hosts is no value: it may be one of cpu, host"),
        (
            "small",
            "web/cpu",
            "99999999",
            "web.cpu is '99999999', but may be CPUs in quotes, such as 250m or 2, from 1m to 512",
        ),
        ("small", "web/cpu", "0.5", "web.cpu is '0.5', but may be CPUs"),
        ("small", "web/cpu", 2, "web.cpu is 2, but may be CPUs in quotes"),
        (
            "small",
            "web/memory",
            "1Mi",
            "web.memory is '1Mi', but may be memory such as 512Mi or 2Gi, from 64Mi to 4096Gi",
        ),
        ("small", "scheduler/memory", "999999999Gi", "scheduler.memory is '999999999Gi', but may be memory"),
        ("small", "dispatcher/replicas", True, "dispatcher.replicas is True, but may be a whole number"),
        ("small", "dispatcher/gpu", 1, "dispatcher.gpu is no value: it may be one of cpu, memory, replicas"),
        (
            "small",
            "network/peers/0/cidr",
            "10.0.0.0/8",
            "network.peers.0: each entry names either a cidr or a namespace",
        ),
        (
            "small",
            "network/peers/0",
            {"cidr": "10.0.0.7", "ports": [1]},
            "cidr is '10.0.0.7', but may be empty, or a network",
        ),
        (
            "small",
            "network/peers/0",
            {"cidr": "10.0.0.1/8", "ports": [1]},
            "'10.0.0.1/8', but may be empty, or a network in its shortest",
        ),
        ("small", "network/peers/0", {"cidr": "10.0.0.0/33", "ports": [1]}, "is '10.0.0.0/33', but may be"),
        (
            "small",
            "network/peers/0",
            {"cidr": "10.0.0.0/255.0.0.0", "ports": [1]},
            "is '10.0.0.0/255.0.0.0', but may be",
        ),
        (
            "small",
            "network/peers/0",
            {"namespace": "My Space", "ports": [1]},
            "namespace is 'My Space', but may be empty",
        ),
        (
            "small",
            "network/peers/0",
            {"namespace": "a", "ports": []},
            "network.peers.0.ports is [], but may be a list that",
        ),
        (
            "small",
            "network/peers/0",
            {"namespace": "a", "ports": [70000]},
            "ports.0 is 70000, but may be a whole number from 1 up",
        ),
        (
            "small",
            "network/peers/0",
            {"namespace": "a", "port": 1},
            "peers.0.ports is not set, but must be a list",
        ),
        (
            "small",
            "network/ingress_namespace",
            "",
            "network.ingress_namespace is '', but may be the name of a namespace",
        ),
        ("small", "monitoring/namespace", LONG, "but may be the name of a namespace"),
        (
            "gpu",
            "monitoring/prometheus",
            "prometheus:9090",
            "'prometheus:9090', but may be empty, or the address that KEDA asks",
        ),
        (
            "gpu",
            "workers/gpu/offers",
            {"GPU": 1},
            "workers.gpu.offers names 'GPU', but a name there may be a small letter",
        ),
        (
            "gpu",
            "workers/gpu/offers",
            {"gpu": -1},
            "workers.gpu.offers.gpu is -1, but may be a whole number from 0",
        ),
        (
            "gpu",
            "workers/gpu/devices",
            {"memory": 1},
            "devices names 'memory', but a name there may be a resource of a node",
        ),
        (
            "gpu",
            "workers/gpu/devices",
            {"nvidia.com/gpu": True},
            "devices.nvidia.com/gpu is True, but may be a whole number",
        ),
        (
            "gpu",
            "workers/gpu/node_selector",
            {"a key": "x"},
            "node_selector names 'a key', but a name there may be the key",
        ),
        (
            "gpu",
            "workers/gpu/node_selector",
            {"disk": LONG},
            "up to 63 characters, the first and the last a letter or digit",
        ),
        (
            "gpu",
            "workers/gpu/tolerations/0/keys",
            "x",
            "tolerations.0.keys is no value: it may be one of effect, key",
        ),
        (
            "gpu",
            "workers/gpu/tolerations/0/operator",
            "Exist",
            "operator is 'Exist', but may be one of Exists, Equal",
        ),
        (
            "gpu",
            "workers/gpu/tolerations/0/effect",
            "NoRun",
            "is 'NoRun', but may be one of NoSchedule, PreferNoSchedule, NoExecute",
        ),
        (
            "gpu",
            "workers/gpu/tolerations/0/value",
            "x",
            "tolerations.0: value is 'x', but may be set only with operator",
        ),
        ("gpu", "workers/gpu/tolerations/0", {"value": "x"}, "tolerations.0: key is not set, but may be"),
        (
            "gpu",
            "workers/gpu/tolerations/0/toleration_seconds",
            3,
            "toleration_seconds is set, which may be only with effect NoExecute",
        ),
        (
            "gpu",
            "workers/gpu/runtime_class",
            "nvidia runtime",
            "is 'nvidia runtime', but may be empty, or the name of an object",
        ),
        (
            "gpu",
            "workers/gpu/scale/wait_seconds",
            0,
            "scale.wait_seconds is 0, but may be a number from 1 up to 86400",
        ),
        ("gpu", "workers/gpu/scale/wait_seconds", float("inf"), "wait_seconds is inf, but may be a number"),
        ("gpu", "workers/gpu/scale/wait", 5, "scale.wait is no value"),
        (
            "gpu",
            "workers/" + "p" * 40,
            {},
            "which may have up to 54 characters: give the system or the pool a shorter name",
        ),
        ("small", "replica", 2, "replica is no value: it may be one of dispatcher, files"),
        ("small", "web", 7, "web is 7, but may be a table"),
        ("small", "image", "x" * 5000, "…, but may be an image"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_is_and_what_it_may_be(
    said: Callable[[str, str, Any], str], example: str, place: str, value: Any, says: str
) -> None:
    assert says in said(example, place, value)


def test_a_file_that_no_reader_of_toml_can_take_in_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "values.toml"
    for text in ("image = " + "9" * 5000, "image = " + "[" * 5000, "image = '\0'"):
        path.write_text(text)
        done = CliRunner().invoke(kubernetes, [str(path)])
        assert done.exit_code == 2 and "is not valid TOML" in done.output and "Traceback" not in done.output


def test_each_pod_runs_as_the_account_that_holds_the_role_of_the_bucket(tmp_path: Path) -> None:
    path = values_file(tmp_path, "gpu", "service_account", "darkroom-s3")
    pods = [
        each["spec"]["template"]["spec"] for each in objects_of(path) if "template" in each.get("spec", {})
    ]
    assert len(pods) == 6  # web, dispatcher, scheduler, two pools, and the Job
    assert {pod["serviceAccountName"] for pod in pods} == {"darkroom-s3"}
    assert {pod["automountServiceAccountToken"] for pod in pods} == {False}


def test_kubernetes_changes_no_dollar_of_a_setting(tmp_path: Path) -> None:
    path = values_file(tmp_path, "small", "settings/DARKROOM_PROVIDERS__studio__OPTIONS__note", "$(HOME) $$5")
    (pod, *_) = [each["spec"]["template"] for each in objects_of(path) if each["kind"] == "Deployment"]
    given_as = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert given_as["DARKROOM_PROVIDERS__studio__OPTIONS__note"] == "$$(HOME) $$$$5"


# YAML 1.2's numbers and truth values, and those of kubectl's reader.
NO_TEXT = re.compile(
    r"[-+]?(0x[0-9a-f]+|0o[0-7]+|0b[01]+|(\.\d+|\d[\d_]*(\.\d*)?)(e[-+]?\d+)?|\.inf)|\.nan|true|false|yes|no|on|off|y|n|null|~",
    re.IGNORECASE,
)


def test_every_reader_of_yaml_takes_a_text_for_a_text(tmp_path: Path) -> None:
    labels = {f"l{n}": text for n, text in enumerate(("1e3", "y", "0o17", "12e-4", "0x1f", "on", "1_0", "5"))}
    path = values_file(tmp_path, "gpu", "workers/gpu/node_selector", labels)
    for text in rendered(path).values():
        for document in yaml.compose_all(text):
            for node in scalars(document):
                if node.tag == "tag:yaml.org,2002:str" and node.style is None:
                    assert not NO_TEXT.fullmatch(node.value), node.value


def scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from scalars(each)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from scalars(pair[0])
            yield from scalars(pair[1])


PLACES = (
    "name",
    "image",
    "pull_policy",
    "pull_secrets",
    "service_account",
    "secret",
    "url",
    "settings",
    "files",
    "settings_file",
    "web/host",
    "web/ingress_class",
    "web/tls_secret",
    "web/cpu",
    "web/memory",
    "web/replicas",
    "workers/gpu/devices",
    "workers/gpu/node_selector",
    "workers/gpu/tolerations",
    "workers/gpu/runtime_class",
    "workers/gpu/threads",
    "workers/gpu/scale/most",
    "workers/gpu/scale/wait_seconds",
    "workers/gpu/offers/gpu",
    "network/peers/0/cidr",
    "network/peers/0/ports",
    "network/ingress_namespace",
    "monitoring/prometheus",
    "monitoring/namespace",
    "workers/a-b",
)
TEXTS = st.one_of(
    st.text("aZ09.-_/:@$* \nü", max_size=6),
    st.sampled_from(
        (
            "",
            "a",
            "a.b",
            "a-b",
            "a.b/c",
            "y",
            "on",
            "1e3",
            "0x1f",
            "null",
            "x" * 63,
            LONG,
            "*.a.b",
            "a:1",
            "a@" + SHA,
            "a.b:5/c/d:1",
            "512Mi",
            "64Mi",
            "4096Gi",
            "1Ki",
            "01Gi",
            "500m",
            "0",
            "512",
            "513",
            "Always",
            "10.0.0.0/8",
            "::/0",
            "10.0.0.1/8",
            "0.0.0.0/0",
            "http://a",
            "https://a.b:8",
            "http://[::1]:8",
            "http://a:b@c",
            "darkroom.toml",
        )
    ),
)
TOLERATIONS = st.fixed_dictionaries(
    {},
    optional={
        "key": TEXTS,
        "operator": st.sampled_from(("Exists", "Equal", "Gt")),
        "value": TEXTS,
        "effect": st.sampled_from(("NoSchedule", "NoExecute", "Never")),
        "toleration_seconds": st.integers(-1, 9),
    },
)
VALUES = st.one_of(
    TEXTS,
    st.lists(TEXTS | st.integers(-1, 70_000) | TOLERATIONS, max_size=2),
    st.integers(-1, 5000) | st.booleans() | st.floats(),
    st.dictionaries(
        TEXTS | st.sampled_from(("DARKROOM_LOG_LEVEL", "DARKROOM_A b")),
        TEXTS | st.integers(0, 70),
        max_size=2,
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_what_passes_is_what_kubernetes_takes(tmp_path: Path, place: str, value: Any) -> None:
    path = values_file(tmp_path, "gpu", place, copy.deepcopy(value))
    try:
        texts = rendered(path)
    except WrongUsage as wrong:
        assert str(wrong).endswith((".", "?")) and "\n" not in str(wrong)
        return
    for text in texts.values():
        for each in yaml.safe_load_all(text):
            if each["kind"] not in OF_OPERATORS:
                kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
            if each["kind"] != "Kustomization":
                hold_to_the_servers_rules(each)


def objects_of(path: Path) -> list[dict[str, Any]]:
    return [each for text in rendered(path).values() for each in yaml.safe_load_all(text)]


DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"[1-9]\d*(m|Mi|Gi)?")


def hold_to_the_servers_rules(each: dict[str, Any]) -> None:
    """What an API server refuses though its published schema says only that it is text."""
    assert DNS_LABEL.fullmatch(each["metadata"]["name"])
    assert all(LABEL_VALUE.fullmatch(value) for value in each["metadata"]["labels"].values())
    spec = each.get("spec", {})
    for rule in [*spec.get("egress", []), *spec.get("ingress", [])]:
        for peer in [*rule.get("to", []), *rule.get("from", [])]:
            if "ipBlock" in peer:
                assert "/" in peer["ipBlock"]["cidr"] and ipaddress.ip_network(peer["ipBlock"]["cidr"])
            else:
                (space,) = peer["namespaceSelector"]["matchLabels"].values()
                assert DNS_LABEL.fullmatch(space)
        assert all(0 < port["port"] < 65_536 for port in rule["ports"])
    if each["kind"] == "Ingress":
        assert all(
            DNS_LABEL.fullmatch(part) for part in spec["rules"][0]["host"].removeprefix("*.").split(".")
        )
    if each["kind"] == "ScaledObject":
        assert len(each["metadata"]["name"]) <= 54 and spec["minReplicaCount"] <= spec["maxReplicaCount"]
        assert all(float(trigger["metadata"]["threshold"]) > 0 for trigger in spec["triggers"])
    pod = spec.get("template", {}).get("spec")
    if pod is None:
        return
    (container,) = pod["containers"]
    assert re.fullmatch(r"[A-Za-z0-9]+[A-Za-z0-9._/:@-]*", container["image"])
    for amounts in container["resources"].values():
        assert all(QUANTITY.fullmatch(amount) for amount in amounts.values())
    assert all(re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", variable["name"]) for variable in container["env"])
    assert all(isinstance(variable.get("value", ""), str) for variable in container["env"])
    assert all(LABEL_VALUE.fullmatch(value) for value in pod.get("nodeSelector", {}).values())
    for of in pod.get("tolerations", []):
        assert of["operator"] in ("Exists", "Equal") and (of.get("key") or of["operator"] == "Exists")
        assert not (of["operator"] == "Exists" and of.get("value"))
        assert "tolerationSeconds" not in of or of["effect"] == "NoExecute"
        assert LABEL_VALUE.fullmatch(of.get("value", ""))
