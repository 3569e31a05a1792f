"""Pictures from words, a film from a picture, JSON, a form of 30 fields: through every door, and wherever shown."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from supervisor.core.ids import new_ulid
from tests.support.databases import KINDS, POSTGRESQL, plain_connection
from tests.support.fakes.fake_ai_service import FakeAiService
from tests.support.films import film
from tests.support.houses.four_types import BAD, GOOD, HARD_DATA, PICTURE, TYPES, four_types
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.servers.webhook_receiver import WebhookReceiver
from tests.support.waiting import eventually

SAMPLE = Path(__file__).parents[3] / "examples" / "samples" / "portrait.png"
pytestmark = pytest.mark.timeout(300)
Sent = tuple[RunningSystem, WebhookReceiver, str]
PRODUCER = """
import json, sys
from actors import submit
submit.send("demo", sys.argv[1], json.loads(sys.argv[2]), task_id=sys.argv[3])
"""


@pytest.fixture(scope="module", params=KINDS)
def sent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """A running system, the receiver of its webhooks, and the id of a picture."""
    url = take_database() if request.param == POSTGRESQL else ""
    try:
        with FakeAiService() as service, WebhookReceiver() as receiver:
            settings = four_types(service) | {
                "CREDITS__ENABLED": "true",
                "CREDITS__SIGNUP_GRANT": "1000",
                "WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true",
                "WORKER_PROCESSES": "1",
            }
            if url:
                settings["DATABASE_URL"] = url
            with running_system(log=tmp_path_factory.mktemp("four") / "log", **settings) as system:
                yield system, receiver, system.upload_sample()
    finally:
        if url:
            give_back(url)


def _asked(system: RunningSystem, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(system.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _value(system: RunningSystem, query: str, *params: Any) -> Any:
    url = system.environ.get("DARKROOM_DATABASE_URL") or f"sqlite:///{system.data_dir}/darkroom.db"
    with contextlib.closing(plain_connection(Settings(data_dir=system.data_dir, database_url=url))) as plain:
        row = plain.execute(query, params).fetchone()
        return row and row[0]


def _with(picture: str, params: dict[str, Any]) -> dict[str, Any]:
    return {name: [picture] if value == [PICTURE] else value for name, value in params.items()}


def _ended(system: RunningSystem, task_id: str) -> dict[str, Any]:
    eventually(
        "the task is there and has ended",
        lambda: _asked(system, f"/v1/tasks/{task_id}")[1].get("status") in ("completed", "failed"),
        60,
    )
    return dict(_asked(system, f"/v1/tasks/{task_id}")[1])


def _is_as_ordered(system: RunningSystem, type_: str, task: dict[str, Any]) -> None:
    """The result, its price, and the work that shows the same."""
    _, credits = GOOD[type_]
    assert task["status"] == "completed", task["error"]
    result = task["result"]
    debit = _value(system, "SELECT -sum(amount) FROM credit_entry WHERE task_id = ?", task["task_id"])
    assert int(debit or 0) == credits
    assert len(result["images"]) == (2 if type_ == "poster" else 0)
    if type_ == "film":
        [shown] = result["files"]
        assert (shown["media_type"], shown["bytes"], shown["name"]) == ("video/mp4", len(film()), "fair.mp4")
        with urllib.request.urlopen(system.url + shown["url"], timeout=60) as answer:
            assert answer.read() == film()
        assert result["data"] == {"seconds": 1.5}
    if type_ == "caption":
        assert result["data"] == {"caption": "A fair in May", "score": 0.5}
    if type_ == "form":
        assert result["data"]["field_00"] == 3 and result["data"]["field_01"] == "words", (
            "defaults are filled in"
        )
    docs = _asked(system, "/v1/works/changes")[1]["docs"]
    [doc] = [each for each in docs if each["task_id"] == task["task_id"]]
    assert doc.get("data") == result.get("data")
    assert [each["name"] for each in doc.get("files", [])] == [
        each["name"] for each in result.get("files", [])
    ]


@pytest.mark.parametrize("type_", TYPES)
def test_over_http_with_its_estimate_and_its_webhook(sent: Sent, type_: str) -> None:
    system, receiver, picture = sent
    params, credits = GOOD[type_]
    order = {"type": type_, "params": _with(picture, params), "webhook": receiver.hook}
    status, estimate = _asked(system, "/v1/tasks?estimate=true", order)
    assert (status, estimate["credits"]) == (200, credits)
    status, accepted = _asked(system, "/v1/tasks", order)
    assert status == 202, accepted
    task = _ended(system, accepted["task_id"])
    _is_as_ordered(system, type_, task)
    told: list[Any] = []

    def is_told() -> bool:
        told.extend(json.loads(each.body) for each in receiver.heard)
        return any(each["data"]["task_id"] == task["task_id"] for each in told)

    eventually("the webhook is sent", is_told, 60)
    [data, *_] = [each["data"] for each in told if each["data"]["task_id"] == task["task_id"]]
    assert data["result"].get("data") == task["result"].get("data")
    assert len(data["result"].get("files", [])) == len(task["result"].get("files", []))


@pytest.mark.parametrize("type_", TYPES)
def test_by_sql_and_by_message(sent: Sent, type_: str) -> None:
    system, _, picture = sent
    params = _with(picture, GOOD[type_][0])
    by_sql, by_message = new_ulid(), new_ulid()
    _insert(system, by_sql, type_, params)
    _send(system, by_message, type_, params)
    for task_id in (by_sql, by_message):
        _is_as_ordered(system, type_, _ended(system, task_id))


@pytest.mark.parametrize("type_", TYPES)
def test_a_mistake_is_reported_by_each_interface_with_its_place_and_costs_nothing(
    sent: Sent, type_: str
) -> None:
    system, _, _ = sent
    params, pointer = BAD[type_]
    for path in ("/v1/tasks", "/v1/tasks?estimate=true"):
        status, problem = _asked(system, path, {"type": type_, "params": params})
        assert status == 422
        assert f"/params{pointer}" in [each["pointer"] for each in problem["errors"]]
        assert all(each["detail"].endswith(".") for each in problem["errors"])
    by_sql, by_message = new_ulid(), new_ulid()
    _insert(system, by_sql, type_, params)
    task = _ended(system, by_sql)
    assert (task["status"], task["error"]["code"]) == ("failed", "bad_params")
    assert task["error"]["message"].startswith(pointer[1:].replace("/", "."))
    assert _value(system, "SELECT count(*) FROM credit_entry WHERE task_id = ?", by_sql) == 0
    _send(system, by_message, type_, params)
    _send(system, last := new_ulid(), "caption", GOOD["caption"][0])
    _ended(system, last)  # messages are taken in their order, so the bad one was looked at
    assert _value(system, "SELECT count(*) FROM task_queue WHERE id = ?", by_message) == 0


@pytest.mark.parametrize("type_", TYPES)
def test_on_the_command_line(sent: Sent, type_: str, tmp_path: Path) -> None:
    system, _, _ = sent
    params, _ = GOOD[type_]
    words = [
        "submit",
        type_,
        *([str(SAMPLE)] if "images" in params else []),
        "--out",
        str(tmp_path),
        "--json",
    ]
    words += ["--prompt", params["prompt"]] if "prompt" in params else []
    words += ["--count", str(params["count"])] if "count" in params else []
    for name, value in params.get("parameters", {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    done = _run(system, *words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["images"]) == (2 if type_ == "poster" else 0)
    if type_ == "film":
        [saved] = told["files"]
        assert Path(saved["path"]).read_bytes() == film() and saved["path"].endswith("-1-fair.mp4")
    if type_ != "poster":
        assert json.loads((tmp_path / f"{type_}-{told['task_id']}.json").read_text()) == told["data"]
    shown = _run(system, "show", told["task_id"]).stdout
    assert ("video/mp4" in shown) == (type_ == "film") and ("data: {" in shown) == (type_ != "poster")
    bad = _run(system, "submit", "poster", "--quality", "uhd", "--out", str(tmp_path))
    assert bad.returncode != 0 and "quality" in bad.stderr and "Traceback" not in bad.stderr


def _run(system: RunningSystem, *words: str) -> subprocess.CompletedProcess[str]:
    return system.darkroom(*words, cwd=system.data_dir, timeout=120)


def _insert(system: RunningSystem, task_id: str, type_: str, params: dict[str, Any]) -> None:
    url = system.environ.get("DARKROOM_DATABASE_URL") or f"sqlite:///{system.data_dir}/darkroom.db"
    with contextlib.closing(plain_connection(Settings(data_dir=system.data_dir, database_url=url))) as plain:
        plain.execute(
            "INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, 'demo', ?, ?)",
            (task_id, type_, json.dumps(params)),
        )


def _send(system: RunningSystem, task_id: str, type_: str, params: dict[str, Any]) -> None:
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", PRODUCER, type_, json.dumps(params), task_id],
        env=os.environ | system.environ | {"PYTHONPATH": str(root)},
        cwd=system.data_dir,
        timeout=120,
        check=True,
    )


def _lists(system: RunningSystem) -> list[int]:
    """Statuses of all addresses that show data of several tasks."""
    return [_asked(system, path)[0] for path in ("/v1/tasks", "/v1/works", "/v1/works/changes")]


def test_data_that_a_database_or_a_writer_of_json_refuses_is_kept_and_does_not_break_the_lists(
    sent: Sent,
) -> None:
    system, _, _ = sent
    _, order = _asked(system, "/v1/tasks", {"type": "caption", "params": {"prompt": "hard"}})

    task = _ended(system, order["task_id"])

    assert task["status"] == "completed", task
    data = task["result"]["data"]
    assert [float(number) for number in data.pop("large")] == [1e20, 1e308, 1e30, -1e30, float(2**63)]
    assert data == {"zero\ufffd": "a\ufffdb", "half of a pair": "\ufffd", "deep": HARD_DATA["hard"]["deep"]}
    assert _lists(system) == [200, 200, 200]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [("too deep", "nested more than 100 deep"), ("too large", "a number that is too large")],
)
def test_data_that_no_reader_takes_fails_its_task_alone_with_the_reason(
    sent: Sent, prompt: str, why: str
) -> None:
    system, _, _ = sent
    _, order = _asked(system, "/v1/tasks", {"type": "caption", "params": {"prompt": prompt}})

    task = _ended(system, order["task_id"])

    assert task["status"] == "failed" and why in task["error"]["message"], task
    assert _lists(system) == [200, 200, 200]
