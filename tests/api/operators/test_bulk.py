"""/v1/ops/bulk: shown first, then done by the web process, told, stopped and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.store.tasks import user_actions
from tests.support.houses.web_server import Web, bearer, running_web, until
from web.handling import background_loops
from web.operators import bulk_actions

ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}


async def _call(
    http: aiohttp.ClientSession, web: Web, method: str, path: str, role: str = "operator", **more: Any
) -> tuple[int, Any]:
    headers = bearer("ann", role)
    async with http.request(method, f"{web.url}/v1/ops/bulk{path}", headers=headers, **more) as answer:
        return answer.status, await answer.json()


async def _cancelled(web: Web, count: int) -> list[str]:
    """So many cancelled tasks of o-7."""
    made = []
    for _ in range(count):
        new = user_actions.NewTask("o-7", ORDER["type"], ORDER["params"])  # type: ignore[arg-type]
        view = await web.database.write_async(lambda tx, n=new: user_actions.submit(tx, web.settings, n))  # type: ignore[misc]
        await web.database.write_async(lambda tx, i=view["task_id"]: user_actions.cancel(tx, i))  # type: ignore[misc]
        made.append(view["task_id"])
    return made


async def _ended(http: aiohttp.ClientSession, web: Web, bulk_id: str) -> Any:
    await until(lambda: web.sql("SELECT state FROM bulk_action") == [("done",)], "all parts are done")
    return (await _call(http, web, "GET", f"/{bulk_id}", "viewer"))[1]


async def test_what_is_previewed_is_started_and_done(web: Web, http: aiohttp.ClientSession) -> None:
    made = await _cancelled(web, 7)
    asked = {"action": "retry", "filter": {"user": "o-7", "status": "cancelled"}}
    status, seen = await _call(http, web, "POST", "/preview", "viewer", json=asked)
    assert (status, seen["count"], seen["credits"], len(seen["sample"])) == (200, 7, 7, 7)
    begin = {"action": "retry", "filter": seen["filter"], "expected": seen["count"]}
    assert (await _call(http, web, "POST", "", "viewer", json=begin))[0] == 403
    status, begun = await _call(http, web, "POST", "", json=begin)
    assert (status, begun["matched"], begun["operator"], begun["role"]) == (202, 7, "ann", "operator")
    ended = await _ended(http, web, begun["id"])
    assert (ended["done"], ended["refused"], ended["credits"]) == (7, 0, 7)
    marks = ", ".join("?" * len(made))
    tasks = web.sql(f"SELECT status, charge FROM task_queue WHERE id IN ({marks})", *made)
    assert tasks == [("pending", 2)] * 7
    _, listed = await _call(http, web, "GET", "", "viewer")
    assert [each["id"] for each in listed["items"]] == [begun["id"]]


async def test_more_than_was_seen_is_409(web: Web, http: aiohttp.ClientSession) -> None:
    await _cancelled(web, 2)
    begin = {"action": "retry", "filter": {"user": "o-7", "status": "cancelled"}, "expected": 1}
    status, problem = await _call(http, web, "POST", "", json=begin)
    assert (status, problem["type"]) == (409, "urn:darkroom:problem:more_than_expected")
    assert web.sql("SELECT count(*) FROM bulk_action") == [(0,)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({"action": "retry"}, "/filter"),
        ({"action": "delete", "filter": {"user": "o-7"}}, "/action"),
        ({"action": "retry", "filter": {"user": 7}}, "/filter/user"),
        ({"action": "retry", "filter": {"colour": "red"}}, "/filter/colour"),
        ({"action": "retry", "filter": []}, "/filter"),
        ({"action": "retry", "filter": {"user": "o-7"}, "more": 1}, "/more"),
        ({"action": "retry", "filter": {"from": "2026-13-01"}}, "/filter/from"),
        ({"action": "retry", "filter": {"from": "2999-01-01"}}, "/filter/from"),
        ({"action": "cancel", "filter": {"type": "photography", "user": ""}}, "/filter/user"),
        ({"action": "cancel", "filter": {"type": "photography", "user": None}}, "/filter/user"),
    ],
)
async def test_a_wrong_filter_is_422(web: Web, http: aiohttp.ClientSession, body: Any, pointer: str) -> None:
    status, problem = await _call(http, web, "POST", "/preview", json=body)
    assert status == 422 and [each["pointer"] for each in problem["errors"]] == [pointer]
    if isinstance(body, dict):
        assert (await _call(http, web, "POST", "", json=body | {"expected": "7"}))[0] == 422


async def test_a_stopped_one_goes_on_after_a_restart(
    tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_web(tmp_path) as web:
        await _cancelled(web, 3)
        asked = {"action": "retry", "filter": {"user": "o-7", "status": "cancelled"}, "expected": 3}
        # nobody does its parts, as if its runner had died at once
        monkeypatch.setattr(bulk_actions, "run_all", lambda *_: 0)
        _, begun = await _call(http, web, "POST", "", json=asked)
        status, stopped = await _call(http, web, "POST", f"/{begun['id']}/stop")
        assert (status, stopped["state"]) == (202, "stopped")
        assert (await _call(http, web, "POST", f"/{begun['id']}/resume"))[1]["state"] == "running"
        monkeypatch.undo()
        await web.stop()
        await web.start()
        assert (await _ended(http, web, begun["id"]))["done"] == 3
        for path in ("/none", "/a%00b"):
            assert (await _call(http, web, "GET", path))[0] == 404
        assert (await _call(http, web, "POST", "/none/stop"))[0] == 404


async def test_what_nobody_has_foreseen_ends_no_runner_and_is_counted(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_loops, "AGAIN_SECONDS", 0.01)
    failures: list[None] = []
    as_ever = bulk_actions.run_all

    def run_all(*args: Any) -> int:
        if len(failures) < 3:
            failures.append(None)
            raise ZeroDivisionError("division by zero")
        return as_ever(*args)

    monkeypatch.setattr(bulk_actions, "run_all", run_all)
    await _cancelled(web, 2)
    asked = {"action": "retry", "filter": {"user": "o-7", "status": "cancelled"}, "expected": 2}
    _, begun = await _call(http, web, "POST", "", json=asked)
    assert (await _ended(http, web, begun["id"]))["done"] == 2
    async with http.get(f"{web.url}/metrics", headers=bearer("ann", "operator")) as answer:
        assert 'darkroom_loop_failures_total{loop="bulk"} 3.0' in await answer.text()
