"""`darkroom kubernetes`: manifests that Kubernetes' own schemas accept, and sentences about values that are wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner, Result

from config.load_settings import load_settings
from supervisor.cli.kubernetes import EXAMPLES, kubernetes, rendered
from supervisor.cli.run import COMMANDS as PARTS
from supervisor.kubernetes.scaling import tasks_per_worker
from supervisor.kubernetes.values import capacity, read_values, takers
from supervisor.processes.heartbeat_pipe import FILE_VARIABLE
from tests.cli.kubernetes.example_objects import SOURCES, objects, of_kind, pods

ROOT = Path(__file__).parents[3]
MADE = ROOT / "deploy" / "kubernetes"
OF_OPERATORS = (
    "ServiceMonitor",
    "PrometheusRule",
    "ScaledObject",
    "Kustomization",
)  # Kubernetes has no schema of them


@pytest.mark.parametrize("example", EXAMPLES)
def test_kubernetes_own_schemas_accept_every_manifest(example: str) -> None:
    for each in objects(example):
        if each["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_manifests_of_the_repository_are_those_that_the_command_makes(example: str) -> None:
    """Make them anew with `darkroom kubernetes` (CONTRIBUTING.md)."""
    texts = rendered(SOURCES / example / "values.toml")
    assert {path.name: path.read_text() for path in (MADE / example).iterdir()} == texts


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_folder_is_a_kustomize_base_of_all_its_files(example: str) -> None:
    texts = rendered(SOURCES / example / "values.toml")
    base = yaml.safe_load(texts.pop("kustomization.yaml"))
    assert base["resources"] == list(texts)
    names = [
        (each["kind"], each["metadata"]["name"])
        for each in objects(example)
        if each["kind"] != "Kustomization"
    ]
    assert len(names) == len(set(names)), "Kustomize refuses two of one name"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_pod_runs_a_part_with_settings_that_exist_and_without_rights(example: str) -> None:
    commands = {command.name for command in PARTS}
    for name, pod in pods(example).items():
        (container,) = pod["spec"]["containers"]
        assert container["args"][0] in commands, name
        given = {each["name"]: each.get("value", "") for each in container["env"]}
        assert given.pop(FILE_VARIABLE) == "/run/darkroom/beat"
        from_secret = {each["name"] for each in container["env"] if "valueFrom" in each}
        assert from_secret == {
            f"DARKROOM_{each}" for each in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL", "SECRET")
        }
        file = SOURCES / example / "darkroom.toml"
        load_settings(
            {**given, "DARKROOM_CONFIG": str(file) if file.exists() else "", "DARKROOM_SECRET": SECRET}
        )
        assert (
            container["securityContext"]["readOnlyRootFilesystem"]
            and pod["spec"]["securityContext"]["runAsNonRoot"]
        )
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


SECRET = "ofTheTestsAndOfNothingElse0123456789"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_part_that_runs_for_ever_is_killed_when_it_is_frozen(example: str) -> None:
    for name, pod in pods(example).items():
        (container,) = pod["spec"]["containers"]
        if "migrate" in name:
            continue
        probe = container["livenessProbe"]
        if container["args"] == ["web"]:
            assert (
                probe["httpGet"]["path"] == "/healthz"
                and container["readinessProbe"]["httpGet"]["path"] == "/readyz"
            )
        else:
            assert probe["exec"]["command"][:3] == ["python", "-m", "supervisor.processes.beat_check"]


def test_a_worker_has_time_to_hear_the_answer_to_a_paid_request() -> None:
    _, settings, _ = read_values(SOURCES / "small" / "values.toml")
    longest = max(each.ai_timeout_seconds for each in settings.tasks.values())
    for name, pod in pods("small").items():
        if "worker" in name:
            assert pod["spec"]["terminationGracePeriodSeconds"] >= settings.drain_seconds + longest + 10


def test_a_pool_with_a_device_is_scaled_by_the_tasks_that_need_it_and_never_needs_one_more_for_a_rollout() -> (
    None
):
    deployment = of_kind("gpu", "Deployment")["darkroom-worker-gpu"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "replicas" not in deployment, "each apply would set back what KEDA has chosen"
    (scaled,) = of_kind("gpu", "ScaledObject").values()
    by_work, by_waiting = scaled["spec"]["triggers"]
    assert by_work["metadata"]["threshold"] == "1", "one GPU runs one task"
    assert 'type=~"flux"' in by_work["metadata"]["query"] and by_waiting["metadata"]["threshold"] == "120"
    assert scaled["spec"]["scaleTargetRef"]["name"] == "darkroom-worker-gpu"


def test_a_type_that_a_pool_names_makes_no_other_pool_grow() -> None:
    values, settings, _ = read_values(SOURCES / "gpu" / "values.toml")
    assert takers(values, settings, "gpu") == ["flux"]
    assert "flux" not in takers(values, settings, "general") and "fitting" in takers(
        values, settings, "general"
    )


def test_a_worker_of_many_slots_is_joined_by_another_before_all_are_used() -> None:
    values, settings, _ = read_values(SOURCES / "large" / "values.toml")
    pool = values.workers["general"]
    types = takers(values, settings, "general")
    assert capacity(pool, types, settings) == 64 and tasks_per_worker(pool, types, settings) == 51


def test_network_policies_let_nothing_in_but_to_web_and_no_part_near_a_hosts_credentials() -> None:
    policies = of_kind("large", "NetworkPolicy")
    assert policies["darkroom-parts"]["spec"]["ingress"] == []
    (rule,) = policies["darkroom-outside"]["spec"]["egress"]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]
    assert [port["port"] for port in policies["darkroom-web"]["spec"]["ingress"][0]["ports"]] == [8000]


def test_the_monitoring_holds_every_alert() -> None:
    (rule,) = of_kind("large", "PrometheusRule").values()
    ours = yaml.safe_load((ROOT / "metrics" / "alerts.yml").read_text())
    assert rule["spec"]["groups"] == ours["groups"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    return lambda *args: CliRunner().invoke(kubernetes, [str(each) for each in args])


def changed(folder: Path, example: str, old: str, new: str) -> Path:
    shutil.copytree(SOURCES / example, folder, dirs_exist_ok=True)
    path = folder / "values.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("example", "old", "new", "says"),
    [
        ("small", "replicas = 2", "replicas = -1", "general.replicas in .* is -1, but may be a whole number from 0"),
        ("small", "replicas = 2", 'memory = "lots"', "general.memory in .* is 'lots', but may be memory such"),
        ("small", "replicas = 2", "copies = 2", "general.copies in .* is no value: it may be one of .*replicas"),
        ("small", 'secret = "darkroom"', "", "secret in .* is not set, but must be the name of an object"),
        ("small", ":0.2.0", ":latest", "image in .* is '.*:latest', but may be an image"),
        ("small", "[settings]", '[settings]\nDARKROOM_TOKEN = "x"', "DARKROOM_TOKEN is or holds a secret"),
        ("small", "[settings]", '[settings]\nDARKROOM_DATABASE_URL = "postgresql://a:b@c/d"', "holds a secret"),
        ("small", "[settings]", "[settings]\nDARKROOM_PORT = 80", "DARKROOM_PORT can't be set here: it is 8000"),
        ("small", "[settings]", "[settings]\nDARKROOM_LEASE = 80", "DARKROOM_LEASE is not a setting"),
        ("small", "[settings]", "[settings]\nPORT = 80", "names .PORT., but a name .* begins with DARKROOM_"),
        ("small", '{ namespace = "valkey"', '{ cidr = "10.0.0.0/8", namespace = "valkey"', "either a cidr or"),
        ("gpu", "offers = { gpu = 1 }", "", "No pool in .* takes the type 'flux' .it needs gpu = 1."),
        ("gpu", '["flux"]', '["fluxx"]', "workers.gpu.types names 'fluxx', but may name some of: .*flux"),
        ("gpu", "files = []", 'files = ["schema.json"]', "schema.json can't be read: No such file"),
        ("gpu", "fewest = 0, most = 8", "fewest = 9, most = 8", "most is 8, but may be 9"),
        ("gpu", 'prometheus = "http', '# prometheus = "http', "monitoring.prometheus is not set"),
        ("gpu", "[workers.gpu]", "[workers.GPU]", "workers in .* names .GPU., but"),
        ("small", "[settings]", "[settings", "is not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence(
    tmp_path: Path, run: Callable[..., Result], example: str, old: str, new: str, says: str
) -> None:
    done = run(changed(tmp_path, example, old, new))
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert re.search(says, done.output), done.output


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('secrets = { KEY = "sk-123" }', "providers.flux.secrets.KEY in darkroom.toml is a secret"),
        ('submit = { headers = { Authorization = "Bearer sk-123" } }', "headers.Authorization in darkroom.toml is"),
        ('submit = { body = { list = [{ api_key = "sk-123" }] } }', "body.list.0.api_key in darkroom.toml is a secret"),
        ('env = { HF_TOKEN = "hf_123" }', "env.HF_TOKEN in darkroom.toml is a secret"),
        ('url = "http://ann:sesame@10.0.0.7:9000"', "a password in an address"),
        ('# http://ann:sesame@10.0.0.7:9000', "a password in an address"),
        ('[s3]\naccess_key_id = "AKIA"\nsecret_access_key = "x"', "s3.access_key_id in darkroom.toml is a secret"),
        (
            '[webhooks]\nsecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"',
            "webhooks.secret in darkroom.toml is a secret",
        ),
    ],
)  # fmt: skip
def test_a_secret_in_a_file_that_would_become_a_config_map_is_refused(
    tmp_path: Path, run: Callable[..., Result], line: str, place: str
) -> None:
    path = changed(tmp_path, "gpu", "", "")
    with (path.parent / "darkroom.toml").open("a") as file:
        file.write(f"\n{line}\n")
    done = run(path)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert place in done.output and "make it a key of the Secret 'darkroom'" in done.output, done.output
    assert not any(each in done.output for each in ("sk-123", "hf_123", "sesame", "whsec"))


def test_what_only_refers_to_a_secret_or_counts_is_none(tmp_path: Path, run: Callable[..., Result]) -> None:
    path = changed(tmp_path, "gpu", "", "")
    with (path.parent / "darkroom.toml").open("a") as file:
        file.write(
            'submit = { headers = { Authorization = "Bearer ${secret.KEY}" }, body = { max_tokens = 7 } }\n'
        )
        file.write('[wechat]\ntoken_seconds = 60\n[providers.monkey]\nkind = "studio"\n')
    assert run(path).exit_code == 0, run(path).output


def test_an_example_is_a_beginning(tmp_path: Path, run: Callable[..., Result]) -> None:
    folder = tmp_path / "mine"
    assert run("--example", "gpu", folder).exit_code == 0
    assert run("--example", "gpu", folder).exit_code == 1, "nothing of the user's is overwritten"
    done = run(folder / "values.toml", "--output", folder / "base")
    assert done.exit_code == 0 and (folder / "base" / "worker-gpu.yaml").exists()
    (folder / "base" / "worker-old.yaml").write_text("")
    done = run(folder / "values.toml", "--output", folder / "base")
    assert done.exit_code == 1 and "worker-old.yaml is not of these values" in done.output


def test_the_installed_command_prints_one_stream(tmp_path: Path) -> None:
    done = subprocess.run(
        ["darkroom", "kubernetes", str(SOURCES / "small" / "values.toml")],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": f"{Path(sys.executable).parent}"},
    )  # fmt: skip
    kinds = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert kinds.count("Deployment") == 4 and "Kustomization" not in kinds
