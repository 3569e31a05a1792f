"""The settings: which source wins, which values are refused, and with which words."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.load_settings import SettingsError, environment_of, load_settings
from config.secret_strength import weakness

SECRET = "of the tests, and of nothing else 0123"


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings({"DARKROOM_" + name: value for name, value in environ.items()})
    return str(caught.value)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_those_of_the_contract(tmp_path):
    settings = load_settings({})
    assert settings.data_dir == tmp_path / "var"
    assert settings.database_url == f"sqlite:///{tmp_path}/var/darkroom.db"
    assert settings.storage_url == f"file://{tmp_path}/var/files"
    assert (settings.broker_url, settings.host, settings.port) == ("", "127.0.0.1", 8000)
    assert (settings.worker_processes, settings.worker_threads) == (2, 16)
    assert (settings.lease_seconds, settings.heartbeat_seconds, settings.stuck_grace_seconds) == (15, 5, 30)
    assert (settings.drain_seconds, settings.feed_retention_seconds, settings.file_link_seconds) == (
        30,
        3600,
        86400,
    )
    assert (settings.log_level, settings.log_format, settings.demo_user) == ("info", "console", True)
    assert (settings.credits.enabled, settings.credits.signup_grant) == (True, 100)
    limits = settings.limits
    assert (limits.open_tasks_per_user, limits.running_tasks_per_user, limits.pending_tasks) == (
        20,
        4,
        100_000,
    )
    assert (limits.streams_per_user, limits.image_bytes, limits.image_pixels) == (10, 20_971_520, 40_000_000)


@pytest.mark.parametrize("name", ["photography", "fitting"])
def test_both_task_types_always_exist_with_the_defaults_of_the_contract(name):
    for environ in (
        {},
        {"DARKROOM_TASKS__upscale__COST_CREDITS": "2"},
        {"DARKROOM_TASKS": '{"upscale": {}}'},
    ):
        task_type = load_settings(environ).tasks[name]
        assert (task_type.provider, task_type.time_limit_seconds, task_type.ai_timeout_seconds) == (
            "studio",
            600,
            300,
        )
        assert (task_type.max_attempts, task_type.cost_credits, task_type.max_running) == (3, 1, 0)
        assert (task_type.remote_limit_seconds, task_type.expire_seconds) == (3600, 86400)


def test_the_environment_is_over_the_file_and_the_file_over_the_defaults(tmp_path):
    (tmp_path / "mine.toml").write_text(
        "port = 9001\nworker_threads = 4\n[tasks.photography]\nmax_attempts = 7\n[tasks.upscale]\ncost_credits = 3\n"
    )
    settings = load_settings(
        {
            "DARKROOM_CONFIG": str(tmp_path / "mine.toml"),
            "DARKROOM_PORT": "9002",
            "DARKROOM_TASKS__photography__COST_CREDITS": "5",
        }
    )
    assert (settings.port, settings.worker_threads, settings.worker_processes) == (9002, 4, 2)
    assert (settings.tasks["photography"].max_attempts, settings.tasks["photography"].cost_credits) == (7, 5)
    assert settings.tasks["upscale"].cost_credits == 3


def test_a_file_in_the_current_folder_is_read_unless_the_config_variable_is_empty(tmp_path):
    (tmp_path / "darkroom.toml").write_text("port = 9001\n")
    assert load_settings({}).port == 9001
    assert load_settings({"DARKROOM_CONFIG": ""}).port == 8000


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("HSOT", "DARKROOM_HOST"),
        ("WORKER_THREAD", "DARKROOM_WORKER_THREADS"),
        ("TASKS__fitting__TIME_LIMIT", "DARKROOM_TASKS__fitting__TIME_LIMIT_SECONDS"),
        ("LIMITS__IMAGE_BYTE", "DARKROOM_LIMITS__IMAGE_BYTES"),
        ("PROVIDERS__mine__KND", "DARKROOM_PROVIDERS__mine__KIND"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_that_exists(name, nearest):
    said = refusal(**{name: "1"})
    assert f"DARKROOM_{name} is not a setting" in said and f"did you mean {nearest}?" in said
    assert "It may be one of" in said


def test_variables_that_kubernetes_sets_for_a_service_are_no_settings():
    """A pod that began before its Service existed must begin again beside it."""
    of_services = {
        "DARKROOM_SERVICE_HOST": "10.0.0.11",
        "DARKROOM_SERVICE_PORT": "80",
        "DARKROOM_SERVICE_PORT_HTTP": "80",
        "DARKROOM_PORT": "tcp://10.0.0.11:80",
        "DARKROOM_PORT_80_TCP": "tcp://10.0.0.11:80",
        "DARKROOM_PORT_80_TCP_PROTO": "tcp",
        "DARKROOM_PORT_80_TCP_PORT": "80",
        "DARKROOM_PORT_80_TCP_ADDR": "10.0.0.11",
        "DARKROOM_WEB_2_SERVICE_HOST": "fd00::1",
        "DARKROOM_WEB_2_SERVICE_PORT_HTTP_METRICS": "9090",
        "DARKROOM_WEB_2_PORT": "tcp://[fd00::1]:80",
        "DARKROOM_WEB_2_PORT_53_UDP": "udp://[fd00::1]:53",
        "DARKROOM_WEB_2_PORT_53_UDP_ADDR": "fd00::1",
    }
    assert load_settings(of_services) == load_settings({})


@pytest.mark.parametrize("name", ["WEB_PORT", "PORT_80_TCP", "WEB_SERVICE", "WEB_HOST"])
def test_a_name_that_only_resembles_one_of_a_service_is_refused(name):
    assert f"DARKROOM_{name} is not a setting" in refusal(**{name: "8000"})


def test_an_unknown_key_of_the_file_is_refused_too(tmp_path):
    (tmp_path / "darkroom.toml").write_text("[tasks.fitting]\nmax_attempt = 3\n")
    said = refusal()
    assert "tasks.fitting.max_attempt in darkroom.toml is not a setting" in said
    assert "did you mean tasks.fitting.max_attempts?" in said


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
        ("PORT", "99999", "a whole number from 0 up to 65535"),
        ("PORT", "http", "a whole number from 0 up to 65535"),
        ("LEASE_SECONDS", "0", "a number above 0"),
        ("LEASE_SECONDS", "nan", "a number above 0"),
        ("WORKER_PROCESSES", "0", "a whole number from 1"),
        ("LOG_FORMAT", "xml", "one of console, json"),
        ("DEMO_USER", "maybe", "true or false"),
        ("LIMITS__PENDING_TASKS", "-1", "a whole number from 0"),
        ("TASKS__fitting__MAX_ATTEMPTS", "0", "a whole number from 1"),
        ("DATABASE_URL", "mysql://host/db", "postgresql://"),
        ("BROKER_URL", "amqp://host", "redis://"),
        ("STORAGE_URL", "s3://", "s3://bucket/prefix"),
        ("URL", "ftp://host", "http://"),
        ("HOST", "a b", "an address or a host name"),
        ("PROVIDERS__mine__KIND", "magic", "one of studio, http, comfyui, openai, replicate"),
    ],
)
def test_an_impossible_value_is_refused_naming_setting_value_and_allowed_values(name, value, may_be):
    said = refusal(**{name: value})
    assert f"DARKROOM_{name} is '{value}'" in said
    assert may_be in said
    assert "\n" not in said


def test_a_task_types_name_is_checked():
    assert "small letter" in refusal(TASKS__2x__PROVIDER="studio")
    assert "small letter" in refusal(**{"TASKS__" + "a" * 33 + "__PROVIDER": "studio"})
    assert "a" * 32 in load_settings({"DARKROOM_TASKS__" + "a" * 32 + "__PROVIDER": "studio"}).tasks


def test_a_task_type_names_a_provider_that_exists():
    assert "may be one of: studio" in refusal(TASKS__upscale__PROVIDER="elsewhere")


def test_the_studios_scenes_are_its_own():
    sentence = refusal(TASKS__photography__SCENES='["beach"]')
    assert (
        "DARKROOM_TASKS__photography__SCENES names 'beach'" in sentence
        and "studio, sunset, night" in sentence
    )


def test_a_heartbeat_fits_twice_into_the_lease():
    assert "DARKROOM_LEASE_SECONDS" in refusal(LEASE_SECONDS="15", HEARTBEAT_SECONDS="8")
    assert load_settings({"DARKROOM_LEASE_SECONDS": "3"}).heartbeat_seconds == 1


def test_an_ai_call_fits_into_the_time_limit():
    said = refusal(TASKS__fitting__TIME_LIMIT_SECONDS="60", TASKS__fitting__AI_TIMEOUT_SECONDS="60")
    assert "DARKROOM_TASKS__fitting__AI_TIMEOUT_SECONDS is 60" in said
    assert (
        load_settings({"DARKROOM_TASKS__fitting__TIME_LIMIT_SECONDS": "60"})
        .tasks["fitting"]
        .ai_timeout_seconds
        == 30
    )


def test_a_database_is_a_file_or_a_server(tmp_path):
    given = {"DARKROOM_DATABASE_URL": "postgres://me:secret@db.example/darkroom"}
    settings = load_settings(given)
    assert settings.database_url == "postgresql://me:secret@db.example/darkroom"
    assert (settings.database_listen_url, settings.database_connections) == ("", 8)
    said = refusal(DATABASE_URL="mysql://me:secret@db.example/darkroom")
    assert "postgresql://user:password@host/name" in said and "secret" not in said
    assert "postgresql://" in refusal(DATABASE_LISTEN_URL="http://db.example")
    assert "from 2 up to 1000" in refusal(DATABASE_CONNECTIONS="1")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "darkroom.example"])
def test_a_public_address_needs_a_secret(host):
    assert "DARKROOM_SECRET is not set" in refusal(HOST=host)
    assert not load_settings({"DARKROOM_HOST": host, "DARKROOM_SECRET": SECRET}).on_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_a_loopback_address_needs_no_secret(host):
    assert load_settings({"DARKROOM_HOST": host}).on_loopback


def test_no_secret_is_ever_printed(tmp_path):
    environ = {
        "DARKROOM_SECRET": "tell-nobody-1 of what 0123456789 says",
        "DARKROOM_TOKEN": "tell-nobody-2",
        "DARKROOM_DATABASE_URL": "postgresql://me:tell-nobody-3@host/db",
        "DARKROOM_BROKER_URL": "redis://:tell-nobody-4@host",
        "DARKROOM_PROVIDERS__mine__KIND": "http",
        "DARKROOM_PROVIDERS__mine__SECRETS__KEY": "tell-nobody-5",
    }
    settings = load_settings(environ)
    assert "tell-nobody" not in repr(settings) + str(settings)
    assert settings.providers["mine"].secrets["KEY"].get_secret_value() == "tell-nobody-5"
    assert "tell-nobody" not in refusal(DATABASE_URL="mysql://me:tell-nobody@host/db")
    assert "tell-nobody" not in refusal(SECRET='{"tell-nobody": 1}', HOST="bad host")
    assert "tell-nobody" not in refusal(SECRET="tell-nobody")


WEAK = {
    "a": "is too short (1 characters)",
    "changeme": "is too short (8 characters)",
    "0123456789abcdef0123456789abcde": "is too short (31 characters)",
    " \t" + "0123456789abcdef0123456789abcde" + "  \n": "is too short (31 characters)",
    "s" * 64: "has too few different characters (1)",
    "012345678" * 8: "has too few different characters (9)",
    "a long random text, the same on every host": "is the text of an example",
    "A long random text, the same on every host ": "is the text of an example",
}


@pytest.mark.parametrize("weak", WEAK)
@pytest.mark.parametrize("name", ["SECRET", "SECRET_BEFORE"])
def test_a_secret_that_can_be_guessed_stops_the_start(name, weak):
    said = refusal(**{name: weak})
    assert said.startswith(f"DARKROOM_{name} {WEAK[weak]}") and "`darkroom secret` prints one" in said
    assert weak.strip() not in said or len(weak) == 1


@given(st.binary(min_size=32, max_size=32))
def test_a_random_secret_of_any_spelling_is_taken_and_none_is_changed(random):
    for text in (random.hex(), base64.b64encode(random).decode()):
        if len(set(text)) >= 10:
            assert load_settings({"DARKROOM_SECRET": text}).secret.get_secret_value() == text
        else:
            assert weakness(text) is not None


def test_an_empty_variable_counts_as_not_given():
    assert load_settings({"DARKROOM_PORT": "", "DARKROOM_DATABASE_URL": ""}).port == 8000


def test_the_value_is_frozen():
    settings = load_settings({})
    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        settings.limits.pending_tasks = 1


def test_a_child_in_another_folder_finds_the_same_settings(tmp_path, monkeypatch):
    (tmp_path / "darkroom.toml").write_text('worker_threads = 3\ndatabase_url = "sqlite:///near.db"\n')
    settings = load_settings({"DARKROOM_CONFIG": "darkroom.toml"})
    environ = environment_of(settings, {"DARKROOM_CONFIG": "darkroom.toml", "HOME": "/root"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_settings(environ) == settings
    assert environ["HOME"] == "/root"


def test_bill_twice_defaults_follow_the_kind():
    environ = {
        "DARKROOM_PROVIDERS__a__KIND": "http",
        "DARKROOM_PROVIDERS__b__KIND": "http",
        "DARKROOM_PROVIDERS__b__MODE": "poll",
        "DARKROOM_PROVIDERS__c__KIND": "openai",
        "DARKROOM_PROVIDERS__d__KIND": "openai",
        "DARKROOM_PROVIDERS__d__MAY_BILL_TWICE": "true",
    }
    providers = load_settings(environ).providers
    assert {name: p.may_bill_twice for name, p in providers.items()} == {
        "studio": True,
        "a": True,
        "b": False,
        "c": False,
        "d": True,
    }


def test_importing_the_settings_reads_no_environment():
    environ = {**os.environ, "DARKROOM_NONSENSE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", "import config"], env=environ, check=True)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("tasks.flux.needs.gpu = true", "tasks.flux.needs.gpu"),
        ("worker_offers.gpu = false", "worker_offers.gpu"),
        ("limits.open_tasks_per_user = true", "limits.open_tasks_per_user"),
        ("port = true", "port"),
        ("tasks.flux.time_limit_seconds = true", "tasks.flux.time_limit_seconds"),
    ],
)
def test_true_and_false_are_no_numbers(tmp_path: Path, line: str, place: str) -> None:
    file = tmp_path / "darkroom.toml"
    file.write_text(line)
    said = refusal(CONFIG=str(file))
    assert said.startswith(f"{place} in {file} is '") and "may be a " in said and "number" in said
