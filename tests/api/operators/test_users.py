"""/v1/ops/users/{user}: what is known of a user, with the use of limits that web processes count."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.support.houses.web_server import Web, bearer, feed_of
from web.limits import rate_limits
from web.openapi.ops_user_schemas import OpsBlockedUsers, OpsBulkActions, OpsBulkPreview, OpsUser

ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}


async def test_a_user_is_shown_with_streams_and_quotas(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "is_loopback_address", lambda _: False)
    path = f"{web.url}/v1/ops/users/o-7"
    async with http.get(path, headers=bearer("eve", "viewer")) as answer:
        assert answer.status == 404
    for _ in range(3):
        async with http.post(web.url + "/v1/tasks", json=ORDER, headers=bearer("o-7")) as answer:
            assert answer.status == 202
    async with feed_of(http, web, "o-7") as feed:
        await feed.next()
        async with http.get(path, headers=bearer("eve", "viewer")) as answer:
            seen = await answer.json()
    OpsUser.model_validate_json(json.dumps(seen), strict=True)
    used = {each["name"]: each["used"] for each in seen["limits"]}
    assert (used["open_tasks"], used["running_tasks"], used["streams"]) == (3, 0, 1)
    # the minute may have turned between the orders and the look
    assert used["orders_per_minute"] in (0, 1, 2, 3) and used["requests_per_minute"] in range(5)
    assert {each["most"] for each in seen["limits"] if each["name"] == "orders_per_minute"} == {120}
    async with http.get(f"{web.url}/v1/ops/users/a%00b", headers=bearer("eve", "viewer")) as answer:
        assert answer.status == 404


async def test_answers_match_their_description(web: Web, http: aiohttp.ClientSession) -> None:
    admin = bearer("bob", "admin")
    block = {"reason": "stolen card"}
    async with http.post(f"{web.url}/v1/ops/users/o-7/block", json=block, headers=admin) as answer:
        assert answer.status == 200
    web.insert_task("o-8")
    asked = {"action": "cancel", "filter": {"user": "o-8"}}
    async with http.post(f"{web.url}/v1/ops/bulk/preview", json=asked, headers=admin) as answer:
        OpsBulkPreview.model_validate_json(await answer.read(), strict=True)
    async with http.post(f"{web.url}/v1/ops/bulk", json=asked | {"expected": 1}, headers=admin) as answer:
        assert answer.status == 202
    for path, model in (
        ("blocked", OpsBlockedUsers),
        ("bulk", OpsBulkActions),
        ("users/o-7", OpsUser),
    ):
        async with http.get(f"{web.url}/v1/ops/{path}", headers=admin) as answer:
            model.model_validate_json(await answer.read(), strict=True)
