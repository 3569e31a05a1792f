"""/v1/ops over HTTP: for operators alone, and its answers."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from supervisor.store.queue import workers
from supervisor.store.webhooks import deliveries
from tests.support.houses.web_server import Web, bearer, until
from web.operators.ops_samples import SAMPLES

ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}


async def _call(
    http: aiohttp.ClientSession, web: Web, method: str, path: str, role: str = "operator", **more: Any
) -> tuple[int, Any]:
    async with http.request(method, web.url + path, headers=bearer("o-1", role), **more) as response:
        return response.status, await response.json() if response.status != 204 else None


async def test_a_task_is_found_examined_cancelled_and_retried(web: Web, http: aiohttp.ClientSession) -> None:
    async with http.post(web.url + "/v1/tasks", json=ORDER, headers=bearer("o-7")) as response:
        task_id = (await response.json())["task_id"]
    async with http.post(web.url + "/v1/tasks", json=ORDER, headers=bearer("o-8")) as response:
        behind = (await response.json())["task_id"]
    _, found = await _call(http, web, "GET", "/v1/ops/tasks?user=o-7")
    assert [each["task_id"] for each in found["items"]] == [task_id]
    _, found = await _call(http, web, "GET", "/v1/ops/tasks?user=o-8")
    assert [each["queue_position"] for each in found["items"]] == [1]
    _, overview = await _call(http, web, "GET", "/v1/ops/overview")
    assert [(each["position"], each["task_id"]) for each in overview["line"]] == [(0, task_id), (1, behind)]
    assert (await _call(http, web, "GET", f"/v1/ops/tasks/{behind}"))[1]["queue_position"] == 1
    assert (await _call(http, web, "POST", f"/v1/ops/tasks/{task_id}/cancel"))[0] == 202
    assert (await _call(http, web, "POST", f"/v1/ops/tasks/{task_id}/cancel"))[0] == 409
    assert (await _call(http, web, "POST", f"/v1/ops/tasks/{task_id}/retry"))[0] == 202
    assert (await _call(http, web, "POST", f"/v1/ops/tasks/{task_id}/release"))[0] == 409
    _, seen = await _call(http, web, "GET", f"/v1/ops/tasks/{task_id}")
    assert seen["task"]["user_openid"] == "o-7" and seen["task"]["status"] == "pending"
    assert [each["action"] for each in seen["audit"]] == ["cancel", "retry"]
    assert {each["operator"] for each in seen["audit"]} == {"o-1"}
    assert (await _call(http, web, "GET", "/v1/ops/tasks/nobody"))[0] == 404


async def test_a_pause_is_seen_in_the_overview_until_it_ends(web: Web, http: aiohttp.ClientSession) -> None:
    asked = {"kind": "type", "name": "photography", "reason": "the model is replaced"}
    assert (await _call(http, web, "POST", "/v1/ops/pauses", json=asked))[0] == 201
    _, seen = await _call(http, web, "GET", "/v1/ops/overview")
    assert [(each["name"], each["reason"]) for each in seen["pauses"]] == [("photography", asked["reason"])]
    assert "type_paused" in [each["code"] for each in seen["troubles"]]
    assert (await _call(http, web, "DELETE", "/v1/ops/pauses/type/photography"))[0] == 204
    assert (await _call(http, web, "DELETE", "/v1/ops/pauses/type/photography"))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "house", "name": "photography"},
        {"kind": "type", "name": "nothing of that name"},
        {"kind": "provider", "name": 7},
        {"kind": "type", "name": "photography", "reason": "two\nlines"},
        [],
    ],
)
async def test_a_pause_of_an_unknown_thing_is_422(web: Web, http: aiohttp.ClientSession, body: Any) -> None:
    assert (await _call(http, web, "POST", "/v1/ops/pauses", json=body))[0] == 422


async def test_a_worker_is_drained_and_a_sweep_is_run_by_hand(web: Web, http: aiohttp.ClientSession) -> None:
    await web.database.write_async(lambda tx: workers.register(tx, "w-1", host="here", pid=1, slots=4))
    assert (await _call(http, web, "POST", "/v1/ops/workers/w-1/drain"))[0] == 202
    assert (await _call(http, web, "POST", "/v1/ops/workers/w-2/drain"))[0] == 404
    assert (await _call(http, web, "POST", "/v1/ops/workers/a%00b/drain"))[0] == 404
    status, done = await _call(http, web, "POST", "/v1/ops/sweep")
    assert status == 200 and done["counts"]["failed"] == 0
    _, seen = await _call(http, web, "GET", "/v1/ops/overview")
    assert [(each["action"], each["target"]) for each in seen["audit"]] == [
        ("sweep", "now"),
        ("drain", "w-1"),
    ]
    assert len(seen["sweeps"]) == 1 and seen["workers"][0]["state"] == "draining"


async def test_a_webhook_is_seen_with_its_attempts_and_sent_again(
    web: Web, http: aiohttp.ClientSession
) -> None:
    order = ORDER | {"webhook": "https://app.example.org/hook?key=s3cret"}
    async with http.post(web.url + "/v1/tasks", json=order, headers=bearer("o-7")) as response:
        task_id = (await response.json())["task_id"]
    await _call(http, web, "POST", f"/v1/ops/tasks/{task_id}/cancel")
    (message,) = await web.database.write_async(lambda tx: deliveries.claim(tx, deliveries.due(tx).get()))
    await web.database.write_async(
        lambda tx: deliveries.put_off(tx, message, None, status=500, reason="It answers 500.")
    )
    _, seen = await _call(http, web, "GET", f"/v1/ops/tasks/{task_id}")
    (delivery,) = seen["webhooks"]
    assert (delivery["id"], delivery["state"]) == (message.id, "failed")
    assert [(each["status"], each["error"]) for each in delivery["tries"]] == [(500, "It answers 500.")]
    _, overview = await _call(http, web, "GET", "/v1/ops/overview")
    assert overview["webhooks"]["ended"]["failed"] == 1
    assert [each["webhook_id"] for each in overview["webhooks"]["addresses"]] == [message.id]
    assert "s3cret" not in json.dumps([seen, overview])
    status, sent = await _call(http, web, "POST", f"/v1/ops/webhooks/{message.id}/resend")
    assert (status, sent["state"]) == (202, "waiting")
    _, seen = await _call(http, web, "GET", f"/v1/ops/tasks/{task_id}")
    assert seen["audit"][-1]["action"] == "resend" and seen["webhooks"][0]["state"] == "waiting"
    for nobody in ("msg_nobody_1", "nobody", "msg_a%00b_1"):
        assert (await _call(http, web, "POST", f"/v1/ops/webhooks/{nobody}/resend"))[0] == 404


async def test_samples_are_taken_without_prometheus(web: Web, http: aiohttp.ClientSession) -> None:
    app = web.server._runner.app
    assert app is not None
    await until(lambda: len(app[SAMPLES]) > 0, "a sample")
    _, seen = await _call(http, web, "GET", "/v1/ops/overview")
    assert {"at", "pending", "running", "stuck", "completed", "failed"} == set(seen["samples"][0])


async def test_a_wrong_question_is_422(web: Web, http: aiohttp.ClientSession) -> None:
    wrong = ("status=nope", "cursor=nope", "user=%00", "stuck=no", "stuck=true&status=nope")
    ignored = ("stuck=true&user=o-7", "stuck=true&code=expired", "stuck=true&cursor=x")
    for query in (*wrong, *ignored):
        assert (await _call(http, web, "GET", f"/v1/ops/tasks?{query}"))[0] == 422
