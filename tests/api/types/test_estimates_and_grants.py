"""The estimated cost of an order, stored nowhere; and credits that a service grants, once for each reference."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.databases import KINDS
from tests.support.houses.web_server import bearer, running_web

HD = {"base": 1, "credits": 2, "by": [{"where": {"quality": "hd"}, "times": 2}]}
POSTER = {"inputs": {"images": [0, 1]}, "price": HD}
TABLES = ("task_queue", "works", "account", "credit_entry", "image", "work_change", "idempotency_key")


@pytest.fixture(params=KINDS)
async def web(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    async with running_web(
        tmp_path, request.param, tasks={"poster": POSTER}, credits={"signup_grant": 10}
    ) as web:
        yield web


async def _asked(
    http: aiohttp.ClientSession,
    web: Any,
    method: str,
    path: str,
    user: str = "o-1",
    role: str = "user",
    **more: Any,
) -> tuple[int, Any]:
    async with http.request(method, web.url + path, headers=bearer(user, role), **more) as answer:
        return answer.status, await answer.json()


def _order(**params: Any) -> dict[str, Any]:
    return {"type": "poster", "params": params}


def _rows(web: Any) -> list[int]:
    return [web.sql(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES]


async def test_an_estimate_says_what_the_order_then_costs_and_stores_nothing(
    web: Any, http: aiohttp.ClientSession
) -> None:
    before = _rows(web)
    order = _order(count=2, parameters={"quality": "hd"})
    status, told = await _asked(http, web, "POST", "/v1/tasks?estimate=true", json=order)
    assert status == 200
    assert told == {"credits": 9, "balance": 10, "queue_position": 0, "eta_seconds": None}
    assert _rows(web) == before, "not even an account"
    status, _ = await _asked(http, web, "POST", "/v1/tasks", json=order)
    assert status == 202
    _, statement = await _asked(http, web, "GET", "/v1/credits")
    assert statement["balance"] == 1
    status, told = await _asked(http, web, "POST", "/v1/tasks?estimate=true", json=order)
    assert (status, told["credits"], told["balance"], told["queue_position"]) == (200, 9, 1, 1)
    status, _ = await _asked(http, web, "POST", "/v1/tasks", json=order)
    assert status == 402


@pytest.mark.parametrize(
    ("query", "order", "pointer"),
    [
        ("true", _order(count=99), "/params/count"),
        ("true", {"type": "nothing", "params": {}}, "/type"),
        ("true", _order(images=["no-such-upload"]), "/params/images"),
        ("yes", _order(), "/estimate"),
    ],
)
async def test_a_bad_order_is_no_better_for_being_an_estimate(
    web: Any, http: aiohttp.ClientSession, query: str, order: Any, pointer: str
) -> None:
    status, problem = await _asked(http, web, "POST", f"/v1/tasks?estimate={query}", json=order)
    assert status == 422 and [each["pointer"] for each in problem["errors"]] == [pointer]


async def test_a_grant_is_made_once_for_each_reference(web: Any, http: aiohttp.ClientSession) -> None:
    path, body = "/v1/credits/o-7/grants", {"amount": 5, "reference": "order 4711"}
    status, told = await _asked(http, web, "POST", path, "shop", "service", json=body)
    assert (status, told) == (201, {"user": "o-7", **body, "balance": 15})
    status, told = await _asked(http, web, "POST", path, "shop", "service", json=body)
    assert (status, told) == (200, {"user": "o-7", **body, "balance": 15})
    for other_path, other in ((path, {**body, "amount": 6}), ("/v1/credits/o-8/grants", body)):
        status, problem = await _asked(http, web, "POST", other_path, "shop", "service", json=other)
        assert status == 409 and problem["type"] == "urn:darkroom:problem:reference_reused"
    status, statement = await _asked(http, web, "GET", "/v1/credits/o-7", "shop", "service")
    assert (status, statement["balance"]) == (200, 15)
    assert [each["amount"] for each in statement["entries"]] == [5, 10]


async def test_of_many_at_once_one_grant_is_made(web: Any, http: aiohttp.ClientSession) -> None:
    body = {"amount": 3, "reference": "once"}
    answers = await asyncio.gather(
        *(
            _asked(http, web, "POST", "/v1/credits/o-9/grants", "shop", "service", json=body)
            for _ in range(12)
        )
    )
    assert sorted(status for status, _ in answers) == [200] * 11 + [201]
    assert {told["balance"] for _, told in answers} == {13}


async def test_only_services_and_operators_grant(web: Any, http: aiohttp.ClientSession) -> None:
    body = {"amount": 3, "reference": "mine"}
    assert (await _asked(http, web, "POST", "/v1/credits/o-1/grants", "o-1", json=body))[0] == 403
    assert (await _asked(http, web, "GET", "/v1/credits/o-2", "o-1"))[0] == 403
    assert web.sql("SELECT count(*) FROM credit_entry WHERE reference LIKE 'http:%'") == [(0,)]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/amount", "/reference"]),
        ([], ["", "/amount", "/reference"]),
        ({"amount": 0, "reference": "a"}, ["/amount"]),
        ({"amount": True, "reference": "a"}, ["/amount"]),
        ({"amount": 2.0, "reference": "a"}, ["/amount"]),
        ({"amount": 10**12, "reference": "a"}, ["/amount"]),
        ({"amount": 1, "reference": "a\x00"}, ["/reference"]),
        ({"amount": 1, "reference": ""}, ["/reference"]),
        ({"amount": 1, "reference": "a", "more": 1}, ["/more"]),
    ],
)
async def test_a_grant_of_another_shape_is_refused_where_it_is_wrong(
    web: Any, http: aiohttp.ClientSession, body: Any, pointers: list[str]
) -> None:
    status, problem = await _asked(http, web, "POST", "/v1/credits/o-1/grants", "shop", "service", json=body)
    assert status == 422 and [each["pointer"] for each in problem["errors"]] == pointers
