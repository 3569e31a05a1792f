"""deploy/: every command exists, every setting is known, nothing runs as root, and drains have time."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from supervisor.cli.run import COMMANDS as PARTS
from supervisor.cli.up import STOP_SECONDS
from tests.support.houses.service_units import read_unit

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "darkroom-queue"}
COMMANDS = {command.name for command in PARTS}
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")


def env_file(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(delimiters="=", comment_prefixes="#", strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("[all]\n" + path.read_text())
    return dict(parser["all"])


def drain_seconds() -> float:
    """The longest that a worker with default settings may take to stop, its provider one that may not bill twice."""
    settings = Settings()
    longest = max(each.ai_timeout_seconds for each in settings.tasks.values())
    return settings.drain_seconds + longest + STOP_SECONDS


def hardening(path: Path) -> str:
    """The lines that all units share."""
    found = re.search(r"# It needs nothing.*?UMask=0077\n", path.read_text(), re.DOTALL)
    assert found is not None
    return found[0]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_with_settings_that_exist(path: Path) -> None:
    service = read_unit(path)["Service"]
    (command,) = service["ExecStart"]
    program, _, name = command.partition(" ")
    assert program == "/opt/darkroom/bin/darkroom" and name in COMMANDS
    given = dict(each.split("=", 1) for each in service["Environment"])
    assert load_settings({"DARKROOM_CONFIG": "", **given}).data_dir == Path("/var/lib/darkroom")
    assert service["EnvironmentFile"] == ["/etc/darkroom/darkroom.env"]
    if name in ("worker", "up"):
        assert seconds(service["TimeoutStopSec"][0]) >= drain_seconds()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_hardened_not_root_and_started_again(path: Path) -> None:
    service = read_unit(path)["Service"]
    assert service["User"] == ["darkroom"] and service["Restart"][0] in ("always", "on-failure")
    assert len({hardening(each) for each in UNITS}) == 1
    for name in (
        "NoNewPrivileges",
        "PrivateTmp",
        "ProtectSystem",
        "SystemCallFilter",
        "MemoryMax",
        "TasksMax",
    ):
        assert name in service
    assert service["IPAddressDeny"] == ["link-local"]
    assert service["CapabilityBoundingSet"] == [""]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_whatever_is_away_and_for_how_long_ends_no_unit_for_good(path: Path) -> None:
    unit = read_unit(path)
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"] and "StartLimitBurst" not in unit["Unit"]
    assert unit["Service"]["RestartPreventExitStatus"] == ["2"], "wrong settings alone"
    if path.name == "darkroom-migrate.service":
        assert unit["Service"]["TimeoutStartSec"] == ["infinity"], (
            "it waits, and upgrades as long as it takes"
        )
    elif path.name != "darkroom.service":
        assert "darkroom-migrate.service" in unit["Unit"]["After"][0].split()


@pytest.mark.system
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="no systemd on this machine"
)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program = shutil.which("true")
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/darkroom/bin/darkroom", str(program))
        (tmp_path / path.name.replace("@.", "@1.")).write_text(text)
    units = [str(path) for path in tmp_path.iterdir() if path.suffix in (".service", ".target")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    about_ours = [line for line in done.stderr.splitlines() if "darkroom" in line]
    assert done.returncode == 0 and about_ours == []


SECRET = "ofTheTestsAndOfNothingElse0123456789"


def test_the_example_of_an_environment_works_with_a_secret_and_does_not_start_without() -> None:
    given = env_file(DEPLOY / "systemd" / "darkroom.env.example")
    with pytest.raises(SettingsError, match=r"DARKROOM_SECRET is not set.*`darkroom secret` prints one"):
        load_settings({"DARKROOM_CONFIG": "", **given})
    settings = load_settings({"DARKROOM_CONFIG": "", **given, "DARKROOM_SECRET": SECRET})
    assert settings.database_url.startswith("postgresql://") and settings.storage_url.startswith("s3://")


def test_compose_runs_commands_that_exist_with_settings_that_exist() -> None:
    assert set(OURS) == {"migrate", "web", "dispatcher", "worker", "scheduler"}
    words = env_file(DEPLOY / "compose" / "env.example")
    for name, service in OURS.items():
        assert service["command"] == [name] and name in COMMANDS
        given = {
            key: VARIABLE.sub(lambda found: words[found[1]] or SECRET, value)
            for key, value in service["environment"].items()
        }
        settings = load_settings({"DARKROOM_CONFIG": "", **given})
        assert settings.s3.secret_access_key is not None and not settings.demo_user
    assert OURS["web"]["environment"]["DARKROOM_HOST"] == "0.0.0.0"
    assert seconds(OURS["worker"]["stop_grace_period"]) >= drain_seconds()


TEXT, TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
# What the Compose Specification says of those of its words that we use; a misspelt one would be ignored or refused.
SERVICE = {
    "image": TEXT,
    "build": {"type": "object", "required": ["context"], "additionalProperties": False,
              "properties": {"context": TEXT, "dockerfile": TEXT}},
    "user": TEXT,
    "init": {"type": "boolean"},
    "restart": {"enum": ["no", "always", "unless-stopped", "on-failure"]},
    "read_only": {"type": "boolean"},
    "cap_drop": TEXTS,
    "mem_limit": {"type": "string", "pattern": "^[0-9]+[bkmg]$"},
    "pids_limit": {"type": "integer", "minimum": 1},
    "networks": TEXTS,
    "security_opt": TEXTS,
    "tmpfs": TEXTS,
    "volumes": TEXTS,
    "environment": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
    "depends_on": {"type": "object", "additionalProperties": {"type": "object", "required": ["condition"],
        "additionalProperties": False, "properties": {"condition":
            {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}}}},
    "healthcheck": {"type": "object", "additionalProperties": False, "properties": {
        "test": TEXTS | {"uniqueItems": False}, "interval": DURATION, "timeout": DURATION, "start_period": DURATION,
        "retries": {"type": "integer", "minimum": 1}, "disable": {"type": "boolean"}}},
    "command": {"type": "array", "items": {"type": "string"}},
    "ports": TEXTS,
    "stop_grace_period": DURATION,
}  # fmt: skip


def test_compose_uses_words_of_its_specification_as_that_defines_them() -> None:
    schema = {
        "type": "object",
        "required": ["services"],
        "additionalProperties": False,
        "patternProperties": {"^x-": {}},
        "properties": {
            "name": TEXT | {"pattern": "^[a-z0-9][a-z0-9_-]*$"},
            "services": {
                "type": "object",
                "patternProperties": {
                    "^[a-zA-Z0-9._-]+$": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": SERVICE,
                    }
                },
            },
            "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
            "networks": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"internal": {"type": "boolean"}},
                },
            },
        },
    }
    jsonschema.Draft202012Validator.check_schema(schema)
    assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(COMPOSE)] == []


def test_compose_has_a_health_check_and_a_user_for_every_service() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert service["user"] not in ("", "root", "0"), name
        if name != "migrate":  # it ends
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped"
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            wanted = "service_completed_successfully" if other == "migrate" else "service_healthy"
            assert how == {"condition": wanted}
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith("/") or source in COMPOSE["volumes"]
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"] and service["pids_limit"], name
    for service in OURS.values():
        assert service["read_only"]


def test_only_web_and_workers_reach_outside_the_networks_of_compose() -> None:
    networks = COMPOSE["networks"]
    assert networks["inside"]["internal"] and not networks["outside"].get("internal")
    outside = {name for name, each in COMPOSE["services"].items() if "outside" in each["networks"]}
    assert outside == {"web", "worker"}
    assert all("inside" in each["networks"] for each in COMPOSE["services"].values())


def test_every_foreign_image_is_named_by_version_and_digest() -> None:
    dockerfile = (DEPLOY / "compose" / "Dockerfile").read_text()
    images = [each["image"] for name, each in COMPOSE["services"].items() if name not in OURS]
    images += re.findall(r"^ARG PYTHON_IMAGE=(\S+)", dockerfile, re.MULTILINE)
    assert len(images) == 4 and "latest" not in " ".join(images)
    for image in images:
        assert re.fullmatch(r"[a-z0-9/]+:[0-9][a-z0-9.-]*@sha256:[0-9a-f]{64}", image), image
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_every_word_that_compose_asks_for_is_in_its_example_and_every_password_is_left_to_its_owner() -> None:
    asked = set(VARIABLE.findall((DEPLOY / "compose" / "compose.yaml").read_text()))
    example = env_file(DEPLOY / "compose" / "env.example")
    assert asked == set(example)
    assert {name for name, value in example.items() if value} == {
        "DARKROOM_URL"
    }  # `:?` refuses an empty value


def test_the_image_installs_what_many_hosts_need_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "compose" / "Dockerfile").read_text()
    assert "--require-hashes -r deploy/requirements.lock" in text
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001"]
