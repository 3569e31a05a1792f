"""Requests of a user in a minute: which ones count, the answers' headers, and no refusal while the broker is away."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Limits
from tests.support.houses.web_server import Web, bearer, running_web
from tests.support.servers.broker_server import broker_server
from web.limits import rate_limits
from web.limits.minute_counts import MinuteCounts, SharedCounts
from web.limits.rate_limits import Standing, headers_of, quotas_for

FAR = {
    "X-Forwarded-For": "203.0.113.5"
}  # believed of this host, whose loopback addresses are trusted proxies
LIMITS = {"requests_per_minute": 5, "orders_per_minute": 2}
CREDITS = "/v1/credits"
ORDER = {"type": "photography", "params": {"images": ["https://example.org/p.jpg"]}}


@pytest.fixture
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that stands still in the middle of a minute, for the quotas alone."""
    middle = time.time() // 60 * 60 + 20

    class Still:
        time = staticmethod(lambda: middle)

    monkeypatch.setattr(rate_limits, "time", Still)


async def ask(http: aiohttp.ClientSession, web: Web, path: str = CREDITS, **headers: str) -> tuple[int, Any]:
    async with http.get(web.url + path, headers=headers) as response:
        return response.status, response.headers


async def statuses(http: aiohttp.ClientSession, web: Web, times: int, **headers: str) -> list[int]:
    return [(await ask(http, web, **headers))[0] for _ in range(times)]


async def test_a_user_above_the_quota_gets_429_with_retry_after(
    tmp_path: Path, http: aiohttp.ClientSession, one_minute: None
) -> None:
    async with running_web(tmp_path, limits=LIMITS) as web:
        status, headers = await ask(http, web, **bearer("o-1"), **FAR)
        assert status == 200
        assert headers["RateLimit-Policy"] == '"default";q=5;w=60'
        assert headers["RateLimit"] == '"default";r=4;t=40'
        assert await statuses(http, web, 4, **bearer("o-1"), **FAR) == [200] * 4
        status, headers = await ask(http, web, **bearer("o-1"), **FAR)
        assert status == 429 and headers["Retry-After"] == "40"
        assert headers["RateLimit"] == '"default";r=0;t=40'
        assert await statuses(http, web, 1, **bearer("o-2"), **FAR) == [200]


async def test_orders_have_a_quota_of_their_own(
    tmp_path: Path, http: aiohttp.ClientSession, one_minute: None
) -> None:
    async with running_web(tmp_path, limits=LIMITS) as web:
        answers = []
        for _ in range(3):
            async with http.post(web.url + "/v1/tasks", json=ORDER, headers=bearer("o-1") | FAR) as response:
                answers.append((response.status, response.headers["RateLimit-Policy"]))
        policy = '"default";q=5;w=60, "orders";q=2;w=60'
        assert answers == [(202, policy), (202, policy), (429, policy)]
        assert await statuses(http, web, 1, **bearer("o-1"), **FAR) == [200]


async def test_this_host_services_and_operators_are_not_counted(
    tmp_path: Path, http: aiohttp.ClientSession, one_minute: None
) -> None:
    async with running_web(tmp_path, limits=LIMITS) as web:
        assert await statuses(http, web, 7, **bearer("o-1")) == [200] * 7
        assert await statuses(http, web, 7) == [200] * 7
        assert await statuses(http, web, 7, **bearer("backend", "service"), **FAR) == [200] * 7
        assert await statuses(http, web, 7, **bearer("someone", "operator"), **FAR) == [200] * 7
        assert "RateLimit" not in (await ask(http, web, "/healthz", **FAR))[1]


async def test_an_address_without_a_valid_token_is_counted_as_one(
    tmp_path: Path, http: aiohttp.ClientSession, one_minute: None
) -> None:
    async with running_web(tmp_path, limits=LIMITS) as web:
        guesses = [{"Authorization": f"Bearer guess-{n}"} for n in range(7)]
        assert [(await statuses(http, web, 1, **each, **FAR))[0] for each in guesses] == [401] * 5 + [429] * 2
        assert await statuses(http, web, 1, **bearer("o-1"), **FAR) == [200]
        assert await statuses(http, web, 1, **guesses[0], **{"X-Forwarded-For": "203.0.113.6"}) == [401]


async def test_the_access_log_says_who_was_refused_and_why(
    tmp_path: Path, http: aiohttp.ClientSession, one_minute: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_web(tmp_path, limits=LIMITS) as web:
        with caplog.at_level(logging.INFO, logger="darkroom.access"):
            await statuses(http, web, 1, Authorization="Bearer x.y.z", **FAR)
            await statuses(http, web, 6, **bearer("o-1"), **FAR)
    lines = [record.__dict__ for record in caplog.records if record.name == "darkroom.access"]
    stranger, last = lines[0], lines[-1]
    assert stranger["address"] == "203.0.113.5" and "user" not in stranger and "token" in stranger["reason"]
    assert last["user"] == "o-1" and last["address"] == "203.0.113.5" and "a minute" in last["reason"]
    assert "reason" not in lines[1]


async def test_webs_that_share_a_broker_count_together() -> None:
    with broker_server() as broker:
        one, other = SharedCounts(broker.address), SharedCounts(broker.address)
        try:
            assert await one.add(["default:user:o-1"], window=7) == [1]
            assert await other.add(["default:user:o-1", "orders:user:o-1"], window=7) == [2, 1]
            assert await one.add(["default:user:o-1"], window=8) == [1]
        finally:
            await one.close()
            await other.close()


async def test_while_the_broker_is_away_requests_are_counted_in_the_process(tmp_path: Path) -> None:
    counts = SharedCounts(f"unix://{tmp_path / 'nobody.sock'}")
    try:
        assert [await counts.add(["default:user:o-1"], window=7) for _ in range(3)] == [[1], [2], [3]]
    finally:
        await counts.close()


async def test_a_new_minute_begins_at_nothing_and_forgets_the_old() -> None:
    counts = MinuteCounts()
    assert await counts.add(["a", "b"], window=1) == [1, 1]
    assert await counts.add(["a"], window=1) == [2]
    assert await counts.add(["a"], window=2) == [1]


def test_a_quota_of_nothing_is_off() -> None:
    off = Limits(requests_per_minute=0, orders_per_minute=0)
    assert quotas_for("POST", "/v1/tasks", off) == {} == quotas_for("GET", CREDITS, off)
    assert quotas_for("POST", "/v1/images", off) == {"uploads": 120}
    assert quotas_for("POST", "/v1/files", off) == {"uploads": 120}
    assert headers_of([]) == {}


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 60))
def test_the_remaining_count_is_never_negative_and_zero_above_the_limit(
    most: int, used: int, seconds: int
) -> None:
    standing = Standing("default", most, used, seconds)
    assert standing.remaining >= 0 and standing.is_exceeded == (used > most)
    assert not (standing.is_exceeded and standing.remaining)
