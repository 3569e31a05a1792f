"""The command line: exit statuses, one sentence on stderr, and what stdout holds."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import sqlite3
import subprocess
import sys
from typing import Any

import click
import pytest

from config.load_settings import load_settings
from supervisor.cli.api_client import Event, _fields, bearer_token, service_address
from supervisor.cli.main import commands, main
from supervisor.cli.typed_order import parameters_of
from supervisor.security.secret import read_or_make_secret
from supervisor.security.tokens import read_user_token
from tests.support.command_line import ROOT, darkroom


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["up", "--nope"], 2, "No such option"),
        (["nope"], 2, "No such command"),
        (["submit", "photography"], 2, "Missing argument"),
        (["submit", "photography", "nowhere.png"], 2, "nowhere.png is no file"),
        (["token"], 2, "Missing argument"),
        (["token", "bob", "--ttl", "0"], 2, "--ttl is 0"),
        (["credits", "grant", "bob", "0"], 2, "range"),
        (["watch"], 1, "start it with `darkroom up`"),
        (["show", "nothing"], 2, "run `darkroom migrate` first"),
    ],
)
def test_an_error_is_one_sentence_on_stderr(tmp_path, argv, status, said):
    done = darkroom(tmp_path, *argv)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["up", "web", "dispatcher", "worker", "scheduler", "migrate", "doctor"])
def test_wrong_settings_end_every_command_the_same_way(tmp_path, command):
    done = darkroom(tmp_path, command, DARKROOM_HSOT="127.0.0.1")
    assert done.returncode == 2
    assert "did you mean DARKROOM_HOST?" in done.stderr and done.stderr.count("\n") == 1


def test_a_token_is_printed_alone_and_says_who_and_what(tmp_path):
    done = darkroom(tmp_path, "token", "bob", "--role", "service", "--ttl", "60")
    assert done.returncode == 0 and done.stderr == ""
    identity = read_user_token((tmp_path / "secret").read_text().strip(), done.stdout.strip())
    assert (identity.user, identity.role) == ("bob", "service")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_is_printed_alone_and_may_be_used(tmp_path):
    first, second = (darkroom(tmp_path, "secret") for _ in range(2))
    assert first.returncode == 0 and first.stderr == "" and first.stdout != second.stdout
    settings = load_settings({"DARKROOM_CONFIG": "", "DARKROOM_SECRET": first.stdout.strip()})
    assert settings.secret.get_secret_value() + "\n" == first.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["up", "web", "dispatcher", "worker", "scheduler", "migrate", "doctor"])
def test_a_weak_secret_ends_every_command(tmp_path, command):
    done = darkroom(tmp_path, command, DARKROOM_SECRET="changeme")
    assert done.returncode == 2 and "DARKROOM_SECRET is too short (8 characters)" in done.stderr
    assert done.stderr.count("\n") == 1 and "changeme" not in done.stderr


def test_a_weak_secret_in_the_data_folder_signs_nothing(tmp_path):
    (tmp_path / "secret").write_text("changeme\n")
    done = darkroom(tmp_path, "token", "bob")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"The secret in {tmp_path}/secret is too short" in done.stderr and "changeme" not in done.stderr


def test_migrate_grant_and_list_work_without_anything_running(tmp_path):
    assert darkroom(tmp_path, "migrate").returncode == 0
    assert darkroom(tmp_path, "migrate").stdout == "the database is up to date\n"
    assert (
        darkroom(tmp_path, "credits", "grant", "bob", "5", "--reference", "r1").stdout
        == "bob has 105 credits\n"
    )
    again = darkroom(tmp_path, "credits", "grant", "bob", "5", "--reference", "r1")
    assert again.returncode == 1 and "granted before" in again.stderr
    assert darkroom(tmp_path, "tasks").returncode == 0
    swept = darkroom(tmp_path, "sweep").stdout
    assert swept.startswith("0 retried, 0 released, 0 failed, ") and swept.count("\n") == 1
    assert "There is no task" in darkroom(tmp_path, "cancel", "nothing").stderr


def test_the_doctor_says_what_to_do(tmp_path):
    done = darkroom(tmp_path, "doctor")
    assert done.returncode == 1
    assert "run `darkroom migrate`" in done.stdout and "start `darkroom up`" in done.stdout


def test_the_secret_is_made_once_even_by_many_at_once(tmp_path):
    settings = load_settings({"DARKROOM_DATA_DIR": str(tmp_path)})
    code = (
        "from config.load_settings import load_settings; from supervisor.security.secret import read_or_make_secret; "
        "print(read_or_make_secret(load_settings()))"
    )
    environ = {"PYTHONPATH": str(ROOT), "DARKROOM_DATA_DIR": str(tmp_path)}
    makers = [
        subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    made = {maker.communicate()[0].strip() for maker in makers}
    assert made == {read_or_make_secret(settings)}
    assert len(made.pop()) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_the_address_and_token_are_found_on_the_same_host(tmp_path):
    settings = load_settings({"DARKROOM_DATA_DIR": str(tmp_path)})
    assert bearer_token(settings, "demo") == ""
    (tmp_path / "url").write_text("http://127.0.0.1:1234\n")
    secret = read_or_make_secret(settings)
    assert service_address(settings) == "http://127.0.0.1:1234"
    assert read_user_token(secret, bearer_token(settings, "demo")).role == "operator"
    away = load_settings({"DARKROOM_DATA_DIR": str(tmp_path), "DARKROOM_URL": "https://darkroom.example/"})
    assert service_address(away) == "https://darkroom.example"
    assert bearer_token(away, "demo") == ""


def test_event_stream_frames_are_read():
    assert _fields(":\n: beat") == {}
    assert _fields("id: a-1\nevent: change\ndata: {}") == {"id": "a-1", "event": "change", "data": "{}"}
    gone = {"dataType": "remove", "doc": {"_id": "w"}}
    assert Event("change", {"docChanges": [gone]}).docs == []


COMMANDS = [
    ["up"], ["web"], ["dispatcher"], ["worker"], ["scheduler"], ["migrate"], ["submit"], ["types"], ["watch"],
    ["tasks"], ["show"], ["cancel"], ["retry"], ["sweep"], ["webhooks"], ["webhooks", "resend"], ["webhooks", "secret"],
    ["link"], ["secret"], ["token"], ["token", "make"], ["token", "revoke"], ["credits", "grant"], ["doctor"],
    ["copy"],
]  # fmt: skip
PRINT_NOTHING_OF_THEIR_OWN = (
    ["up"], ["web"], ["dispatcher"], ["worker"], ["scheduler"], ["webhooks", "secret"], ["secret"], ["link"]
)  # fmt: skip


def test_every_command_has_a_help_line_and_those_that_print_can_print_json():
    for path in COMMANDS:
        command: click.Command = commands
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        assert command.help and command.help.split("\n")[0].endswith((".", ";")), path
        has_json = any("--json" in option.opts for option in command.params)
        assert has_json != (path in PRINT_NOTHING_OF_THEIR_OWN), path


def test_examples_in_the_help_stand_on_lines_of_their_own(tmp_path):
    said = darkroom(tmp_path, "submit", "--help").stdout
    assert "\n  darkroom submit fitting portrait.png shirt.png\n" in said


POSTER = """
[tasks.poster]
title = { en = "Poster", zh = "海报" }
inputs = { images = [0, 4] }

[tasks.poster.parameters]
required = ["steps"]

[tasks.poster.parameters.properties]
quality = { enum = ["sd", "hd"], default = "sd", description = "How fine." }
steps = { type = "integer" }
box = { type = "object" }
count = { type = "integer" }
size_x = { type = "string" }
size-x = { type = "number" }
"""


def test_a_declared_type_is_listed_and_its_parameters_are_options_of_submit(tmp_path):
    (tmp_path / "poster.toml").write_text(POSTER, encoding="utf-8")
    config = {"DARKROOM_CONFIG": str(tmp_path / "poster.toml")}
    listed = json.loads(darkroom(tmp_path, "types", "--json", **config).stdout)
    assert [each["type"] for each in listed] == ["photography", "fitting", "poster"]
    assert "Poster" in darkroom(tmp_path, "types", **config).stdout
    said = darkroom(tmp_path, "submit", "poster", "--help", **config).stdout
    assert "--quality [sd|hd]" in said and 'How fine.  [default: "sd"]' in said and "--steps INTEGER" in said
    assert "quality, steps*" in said and said.count("--count INTEGER") == 1, "its own option keeps its name"
    assert "--size-x TEXT" in said and said.count("--size-x") == 1, (
        "of two members that make one option the first"
    )
    assert "--quality" not in darkroom(tmp_path, "submit", "fitting", "--help", **config).stdout
    refused = darkroom(tmp_path, "submit", "poster", "--quality", "uhd", **config)
    assert refused.returncode == 2 and "'uhd' is not one of 'sd', 'hd'" in refused.stderr


def test_parameters_come_whole_and_singly(tmp_path):
    (tmp_path / "all.json").write_text('{"a": 1, "b": 2}')
    given = {"parameters.b": 3, "parameters.c": None, "out": "x"}
    assert parameters_of(given, f"@{tmp_path / 'all.json'}") == {"a": 1, "b": 3}
    assert parameters_of(given, '{"a": 1}') == {"a": 1, "b": 3} and parameters_of({}, None) == {}
    for wrong in ("[1]", "{", "@/no/such/file"):
        with pytest.raises(click.UsageError):
            parameters_of({}, wrong)


def test_the_version_is_that_of_the_package(tmp_path):
    said = darkroom(tmp_path, "--version").stdout
    assert said == f"darkroom {importlib.metadata.version('darkroom-queue')}\n"


@dataclasses.dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs a command in this process, which is quick, on a migrated folder with one task; its words."""
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        return Said(ended.value.code, *capsys.readouterr())

    assert run("migrate").status == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "darkroom.db", isolation_level=None)) as producer:
        producer.execute(
            "INSERT INTO task_queue (id, user_openid, type, params) VALUES ('t1', 'o-[red]1', 'photography', '{}')"
        )
    return run


def test_every_table_is_also_available_as_json(here, tmp_path):
    def said(*argv: str) -> Any:
        done = here(*argv, "--json")
        assert done.status == 0, done.err
        return json.loads(done.out)

    assert said("migrate") == {"applied": [], "grants": [], "feeds_renewed": None}
    (listed,) = said("tasks")
    assert (listed["task_id"], listed["status"]) == ("t1", "pending") and "place" not in listed
    assert said("tasks", "--stuck") == []
    assert said("show", "t1")["attempt"] == 0
    assert said("cancel", "t1")["status"] == "cancelled"
    assert said("credits", "grant", "o-2", "5") == {"user": "o-2", "granted": 5, "balance": 105}
    assert said("sweep")["retried"] == 0
    assert said("webhooks") == []
    token = said("token", "o-2", "--ttl", "60")
    assert read_user_token((tmp_path / "secret").read_text().strip(), token["token"]).user == "o-2"
    assert "o-[red]1" in here("tasks").out


def test_a_failed_command_prints_no_json(here):
    again = here("retry", "t1", "--json")
    assert (again.status, again.out) == (1, "")
    assert again.err == "darkroom: Task t1 can't be retried: it is pending.\n"


def test_the_doctors_findings_are_there_for_programs_too(here):
    done = here("doctor", "--json")
    findings = {finding["part"]: finding for finding in json.loads(done.out)}
    assert done.status == 1 and findings["database"]["well"] and not findings["workers"]["well"]
    assert here("doctor", "--json", "--provider", "nobody").status == 2
