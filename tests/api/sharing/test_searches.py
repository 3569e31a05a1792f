"""Works by type and time, and orders as they were given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from supervisor.store.feed import works
from tests.conftest import Store
from tests.support.houses.shop import Shop
from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web
from tests.support.questions import Spy

USER = "o-1"


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(tmp_path, database_kind, limits={"open_tasks_per_user": 0}) as running:
        yield running


async def _json(
    http: aiohttp.ClientSession, web: Web, path: str, user: str = USER, **query: str
) -> tuple[int, Any]:
    async with http.get(web.url + path, headers=bearer(user), params=query) as answer:
        return answer.status, await answer.json()


async def _ids(http: aiohttp.ClientSession, web: Web, **query: str) -> list[str]:
    """Of all pages."""
    found: list[str] = []
    while True:
        status, page = await _json(http, web, "/v1/works", **query)
        assert status == 200, page
        found += [each["_id"] for each in page["items"]]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


async def test_works_are_found_by_type_and_by_time_page_by_page(
    web: Web, http: aiohttp.ClientSession
) -> None:
    shop = Shop(web)
    for type_ in ("photography", "fitting", "photography", "photography", "fitting"):
        await shop.order(type_=type_)
    await Shop(web, "o-2").order(2)
    newest_first = web.sql(
        "SELECT id, type, created_at FROM works WHERE user_openid = ? ORDER BY created_at DESC, id DESC", USER
    )
    everything = [id_ for id_, _, _ in newest_first]
    assert await _ids(http, web, limit="2") == everything
    photos = [id_ for id_, type_, _ in newest_first if type_ == "photography"]
    assert await _ids(http, web, type="photography", limit="1") == photos
    assert await _ids(http, web, type="nothing") == []
    status, page = await _json(http, web, "/v1/works", limit="5")
    assert status == 200
    third = page["items"][2]["created_at"]
    times = {each["_id"]: each["created_at"] for each in page["items"]}
    assert await _ids(http, web, created_from=third, limit="1") == [
        id_ for id_ in everything if times[id_] >= third
    ]
    assert await _ids(http, web, created_before=third) == [id_ for id_ in everything if times[id_] < third]
    in_shanghai = "2030-01-01T08:00:00+08:00"
    assert await _ids(
        http, web, created_before=in_shanghai, type="fitting", created_from="2020-01-01T00:00:00Z"
    ) == [id_ for id_, type_, _ in newest_first if type_ == "fitting"]


@pytest.mark.parametrize(
    "query",
    [
        {"created_from": "yesterday"},
        {"created_before": "2026-01-01"},
        {"created_from": "2026-02-30T00:00:00Z"},
        {"created_from": "2026-01-01T00:00:00"},
        {"type": "\0"},
        {"cursor": "x"},
    ],
)
async def test_a_search_that_can_not_be_meant_is_422(
    web: Web, http: aiohttp.ClientSession, query: dict[str, str]
) -> None:
    status, problem = await _json(http, web, "/v1/works", **query)
    assert status == 422 and problem["errors"][0]["pointer"] == f"/{next(iter(query))}"


async def test_a_time_whose_plus_was_not_escaped_is_told_so(web: Web, http: aiohttp.ClientSession) -> None:
    unescaped = "2030-01-01T08:00:00+08:00"
    for path in ("/v1/works?created_from=", "/v1/works?created_before=", "/v1/ops/tasks?from="):
        async with http.get(
            URL(web.url + path + unescaped, encoded=True), headers=bearer("op", "operator")
        ) as got:
            problem = await got.json(content_type=None)
            assert got.status == 422 and "+ of an offset is written %2B" in problem["detail"], problem
        async with http.get(web.url + path + "yesterday", headers=bearer("op", "operator")) as got:
            assert "%2B" not in await got.text()


def test_a_search_reads_an_index_in_order(store: Store) -> None:
    """And neither all works of the user, nor sorts them."""
    search = works.Search("photography", "completed", "2020-01-01T00:00:00.000Z", "2030-01-01T00:00:00.000Z")

    def asked(tx: Any) -> list[str]:
        if store.settings.database_url.startswith("postgres"):
            tx.execute("SET LOCAL enable_seqscan = off")
            tx.execute("SET LOCAL enable_sort = off")
        spy: Any = Spy(tx, explains=True)
        works.page(spy, USER, search, cursor="2025-01-01T00:00:00.000Z~x")
        return list(spy.plans)

    (plan,) = store.write(asked)
    assert "works_type" in plan and "Sort" not in plan and "TEMP B-TREE" not in plan, plan


async def test_an_order_is_told_as_it_was_given_with_links_to_its_uploads(
    web: Web, http: aiohttp.ClientSession
) -> None:
    headers = bearer(USER)
    async with http.post(f"{web.url}/v1/images", headers=headers, data=picture_bytes()) as answer:
        image = await answer.json()
    params = {"images": [image["id"]], "sceneId": "night", "count": 2, "prompt": "晒 a fair"}
    order = {"type": "photography", "params": params}
    async with http.post(f"{web.url}/v1/tasks", headers=headers, json=order) as answer:
        assert answer.status == 202, await answer.text()
        task_id = (await answer.json())["task_id"]
    status, told = await _json(http, web, f"/v1/tasks/{task_id}/order")
    assert status == 200 and (told["type"], told["params"]) == ("photography", params)
    (kept,) = told["inputs"]
    assert (kept["id"], kept["kind"], kept["media_type"]) == (image["id"], "images", "image/jpeg")
    async with http.get(web.url + kept["url"]) as answer:
        assert answer.status == 200
    assert (await _json(http, web, f"/v1/tasks/{task_id}/order", "o-2"))[0] == 404
    web.sql("UPDATE image SET expired_at = created_at WHERE id = ? RETURNING id", image["id"])
    assert (await _json(http, web, f"/v1/tasks/{task_id}/order"))[1]["inputs"] == [], (
        "it is to be handed in again"
    )
