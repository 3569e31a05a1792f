"""Films and data as results: from a provider to the task, the work, the feed and the webhook, on each database."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from supervisor.security.tokens import make_user_token
from tests.support.databases import KINDS, POSTGRESQL, plain_connection
from tests.support.providers.made_files_provider import MP4
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.postgres_databases import give_back, take_database

DEADLINE_SECONDS = 60


@pytest.fixture(scope="module", params=KINDS)
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("made")
    settings = {
        "TASKS__film": json.dumps(
            {"provider": "maker", "inputs": {"images": [0, 1]}, "outputs": ["videos", "json"]}
        ),
        "PROVIDERS__maker__KIND": "python",
        "PROVIDERS__maker__OPTIONS__class": "tests.support.providers.made_files_provider:MadeFilesProvider",
        "PROVIDERS__maker__OPTIONS__calls": str(folder / "calls"),
        "TASKS__films": json.dumps(
            {"provider": "films", "inputs": {"images": [0, 1]}, "count": [1, 4], "outputs": ["videos"]}
        ),
        "PROVIDERS__films__KIND": "python",
        "PROVIDERS__films__OPTIONS__class": "tests.support.providers.made_files_provider:FilmByFilmProvider",
        "PROVIDERS__films__OPTIONS__calls": str(folder / "films"),
        "WORKER_PROCESSES": "1",
        "CREDITS__ENABLED": "true",
    }
    url = take_database() if request.param == POSTGRESQL else ""
    if url:
        settings["DATABASE_URL"] = url
    try:
        with running_system(log=folder / "log", **settings) as running:
            yield running
    finally:
        if url:
            give_back(url)


def _asked(system: RunningSystem, path: str, body: Any = None, **headers: str) -> Any:
    token = make_user_token((system.data_dir / "secret").read_text().strip(), "o-1", ttl_seconds=600)
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
    return urllib.request.urlopen(urllib.request.Request(system.url + path, data, sent), timeout=60)


def _json(system: RunningSystem, path: str, body: Any = None) -> Any:
    with _asked(system, path, body) as answer:
        return json.load(answer)


def _value(system: RunningSystem, query: str, *params: Any) -> Any:
    url = system.environ.get("DARKROOM_DATABASE_URL") or f"sqlite:///{system.data_dir}/darkroom.db"
    settings = Settings(data_dir=system.data_dir, database_url=url)
    with contextlib.closing(plain_connection(settings)) as plain:
        (value,) = plain.execute(query, params).fetchone()
        return value


def _finished(system: RunningSystem, parameters: dict[str, Any], **order_: Any) -> dict[str, Any]:
    params = {"prompt": "a fair", "parameters": parameters}
    order = {"type": "film", "params": params} | order_
    if "count" in order:
        params["count"] = order.pop("count")
    path = _json(system, "/v1/tasks", order)["urls"]["task"]
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (task := _json(system, path))["status"] not in ("completed", "failed"):
        assert time.monotonic() < deadline, task
        time.sleep(0.05)
    return dict(task)


def test_a_film_and_data_come_back_in_the_task_and_everywhere_it_is_shown(system: RunningSystem) -> None:
    task = _finished(system, {"film": 300_000, "data": {"said": "good day", "score": 0.5}})
    assert task["status"] == "completed", task
    result = task["result"]
    assert result["images"] == [] and result["data"] == {"said": "good day", "score": 0.5}
    [film] = result["files"]
    url = film.pop("url")
    assert film == {
        "media_type": "video/mp4", "bytes": 300_000, "name": "film_ one.mp4", "width": 64, "height": 48,
        "duration_seconds": 1.5,
    }  # fmt: skip
    work = _json(system, f"/v1/works/{task['work_id']}")
    assert work["data"] == result["data"] and [each["name"] for each in work["files"]] == ["film_ one.mp4"]
    listed = next(each for each in _json(system, "/v1/tasks")["items"] if each["task_id"] == task["task_id"])
    assert listed["result"]["data"] == result["data"]
    docs = _json(system, "/v1/works/changes")["docs"]
    assert (
        next(each for each in docs if each["_id"] == task["work_id"])["files"][0]["media_type"] == "video/mp4"
    )
    _is_played_in_parts(system, url)


def _is_played_in_parts(system: RunningSystem, url: str) -> None:
    with _asked(system, url, Range="bytes=0-31") as answer:
        assert answer.status == 206 and answer.read() == MP4[:32]
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["Content-Disposition"].startswith("inline")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_large_data_is_whole_in_its_task_and_a_link_in_lists(system: RunningSystem) -> None:
    data = {"words": ["x" * 100] * 500}
    task = _finished(system, {"data": data})
    assert task["result"]["data"] == data, "a single task is answered with it"
    work = _json(system, f"/v1/works/{task['work_id']}")
    assert work["data"] is None and work["files"] == []
    with _asked(system, work["data_url"]) as answer:
        assert json.load(answer) == data
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["Content-Type"] == "application/json"
    stored = _value(system, "SELECT CAST(outputs AS TEXT) FROM works WHERE id = ?", task["work_id"])
    assert len(stored) < 1000, "no row and no event holds it"


def test_data_beyond_the_limit_fails_with_a_sentence_and_is_refunded(system: RunningSystem) -> None:
    task = _finished(system, {"data": "x" * 300_000})
    assert (task["status"], task["error"]["code"]) == ("failed", "provider_error")
    assert "262,144" in task["error"]["message"]
    assert _value(system, "SELECT sum(amount) FROM credit_entry WHERE task_id = ?", task["task_id"]) == 0


def test_a_deleted_work_takes_its_files_with_it(system: RunningSystem) -> None:
    task = _finished(system, {"film": 1000, "data": {"a": "x" * 20_000}})
    urls = [task["result"]["files"][0]["url"], task["result"]["data_url"]]
    token = make_user_token((system.data_dir / "secret").read_text().strip(), "o-1", ttl_seconds=600)
    request = urllib.request.Request(
        f"{system.url}/v1/works/{task['work_id']}",
        method="DELETE",
        headers={"Authorization": f"Bearer {token}"},
    )
    urllib.request.urlopen(request, timeout=60).close()
    for url in urls:
        with pytest.raises(urllib.error.HTTPError) as gone:
            _asked(system, url)
        assert gone.value.code == 404


def test_films_that_were_made_one_by_one_are_each_made_once_though_a_worker_died_between(
    system: RunningSystem, tmp_path: Any
) -> None:
    """The first film does not stand for all of the order: the next attempt makes the second, and only that."""
    task = _finished(system, {"film": 5000, "die": str(tmp_path / "died")}, type="films", count=2)
    assert task["status"] == "completed" and (tmp_path / "died").exists()
    assert [each["bytes"] for each in task["result"]["files"]] == [5000, 5000]
    calls = (Path(system.environ["DARKROOM_PROVIDERS__films__OPTIONS__calls"]).read_text()).splitlines()
    assert sum(call.startswith(task["task_id"]) for call in calls) == 3, "once the first, twice the second"
    assert _booked(system, task) == [("debit", -2)]


def test_a_film_that_is_missing_is_refunded_like_a_picture(system: RunningSystem) -> None:
    task = _finished(system, {"film": 5000, "refuse": True}, type="films", count=3)
    assert task["status"] == "completed" and len(task["result"]["files"]) == 1
    assert _booked(system, task) == [("debit", -3), ("refund", 2)]


def _booked(system: RunningSystem, task: dict[str, Any]) -> list[tuple[str, int]]:
    kinds = ("debit", "refund")
    summed = "SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE task_id = ? AND kind = ?"
    found = [
        (kind, _value(system, summed, task["task_id"], kind))
        for kind in kinds
    ]  # fmt: skip
    return [(kind, int(amount)) for kind, amount in found if amount]
