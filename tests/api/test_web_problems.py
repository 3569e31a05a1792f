"""Every error is a problem document, from any source; health is true; no secret is in a log."""

from __future__ import annotations

import asyncio
import gc
import json
import logging

import aiohttp
import aiohttp.web
import pytest

from supervisor.core.errors import AccountLocked, OutcomeUnknown, SettingFault
from supervisor.schema.migrate import check_version
from tests.support.houses.web_server import Web, bearer, until
from tests.support.models.kept_objects import kept_of
from web.http.problems import problem_of


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/nope", 404),
        ("GET", "/v1/tasks/", 404),
        ("GET", "/v1/tasks/unknown", 404),
        ("GET", "/v1/tasks/%00", 404),
        ("GET", "/v1/tasks/" + "x" * 65, 404),
        ("GET", "/v1/works/unknown", 404),
        ("DELETE", "/v1/works/unknown", 404),
        ("POST", "/v1/tasks/unknown/cancel", 404),
        ("POST", "/v1/tasks/unknown/retry", 404),
        ("PUT", "/v1/tasks", 405),
        ("DELETE", "/v1/tasks", 405),
        ("POST", "/v1/works/feed", 405),
        ("HEAD", "/v1/works/feed", 405),
        ("DELETE", "/v1/works/changes", 405),
        ("PATCH", "/v1/tasks", 405),
        ("GET", "/files/x?exp=1&sig=2", 403),
    ],
)
async def test_every_error_is_a_problem(
    web: Web, http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with http.request(method, web.url + path, headers=bearer("o-1")) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        if method != "HEAD":
            problem = json.loads(await response.text())
            assert {"type", "title", "status", "detail", "instance"} <= set(problem)
            assert problem["status"] == status and "?" not in problem["instance"]
        if status == 405:
            assert response.headers["Allow"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/nope", b"x" * 50_000, 404),
        ("POST", "/v1/tasks", b"{" + b"x" * 50_000, 400),
        ("POST", "/v1/tasks", b'{"type":"photography","params":{"images":5}}', 422),
        ("POST", "/v1/tasks/unknown/cancel", None, 404),
        ("DELETE", "/v1/works/unknown", None, 404),
        ("POST", "/v1/images", b"x" * 50_000, 415),
        ("POST", "/v1/callbacks/nope", b"x" * 50_000, 403),
        ("POST", "/openai/v1/images/generations", b'{"model":"nope","prompt":"x"}', 404),
        ("POST", "/tcb/admin", b"x" * 50_000, 200),
    ],
)
async def test_a_refused_request_is_freed_with_its_body_without_the_collector(
    web: Web,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
) -> None:
    """The collector runs after so many new objects: hundreds of requests, with bodies of up to megabytes."""
    kept = kept_of(aiohttp.web.BaseRequest, monkeypatch)
    headers = {**bearer("o-1"), "Content-Type": "application/json"}

    async def ask() -> None:
        async with http.request(method, web.url + path, data=body, headers=headers) as response:
            assert response.status == status, await response.text()
            await response.read()

    await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await ask()
        assert kept.made >= 6
        await until(lambda: kept() <= 1, "no more than the last request is kept")
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"complete nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 400),
        (b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nExpect: the-unexpected\r\nContent-Length: 0\r\n\r\n", 417),
    ],
)
async def test_even_broken_http_gets_a_problem_and_no_traceback(
    web: Web, caplog: pytest.LogCaptureFixture, request_: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(request_)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()
    assert head.split(b" ")[1] == str(status).encode()
    assert b"application/problem+json" in head
    assert not [record for record in caplog.records if record.exc_info]


async def test_the_head_of_an_answer_can_be_asked_for(web: Web, http: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/v1/tasks", "/v1/credits"):
        async with http.head(web.url + path, headers=bearer("o-1")) as response:
            assert response.status == 200 and await response.read() == b""


async def test_an_upload_that_asks_first_gets_100_continue(web: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 100")
    writer.close()


async def test_an_unexpected_error_shows_nothing_internal(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("the password is hunter2")

    await web.context.ensure_account("o-1")
    monkeypatch.setattr(web.database, "read_async", broken)
    async with http.get(web.url + "/v1/credits", headers=bearer("o-1")) as response:
        assert response.status == 500 and response.content_type == "application/problem+json"
        assert "hunter2" not in await response.text()
    assert "hunter2" in caplog.text, "but the log tells the person on call"


async def test_a_database_that_is_away_is_503_and_not_ready(web: Web, http: aiohttp.ClientSession) -> None:
    async with http.get(web.url + "/readyz") as response:
        assert response.status == 200
    web.sql("DELETE FROM migration_history")
    async with http.get(web.url + "/readyz") as response:
        assert response.status == 503 and "migrate" in (await response.json())["detail"]
    async with http.get(web.url + "/healthz") as response:
        assert response.status == 200


async def test_a_process_stays_ready_when_its_successor_has_migrated(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """An upgrade migrates first; if all running web parts called themselves unready then, none would serve."""
    web.sql("INSERT INTO migration_history (name, applied) VALUES ('9999_the_next_release', '2026-01-01')")
    async with http.get(web.url + "/readyz") as response:
        assert response.status == 200
    with pytest.raises(SettingFault, match="newer"):
        check_version(web.database, web.settings)


async def test_a_draining_process_is_alive_but_not_ready(web: Web, http: aiohttp.ClientSession) -> None:
    web.context.is_draining = True
    for path, status in (("/healthz", 200), ("/readyz", 503)):
        async with http.get(web.url + path) as response:
            assert response.status == status
    await web.context.hub.close()
    async with http.get(web.url + "/v1/works/feed", headers=bearer("o-1")) as response:
        assert response.status == 503 and response.headers["Retry-After"]


async def test_no_token_ticket_or_query_reaches_a_log(
    web: Web, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = bearer("o-1")
    async with http.post(web.url + "/v1/feed-tickets", headers=token) as response:
        ticket = (await response.json())["ticket"]
    for path in (
        f"/v1/works/feed?ticket={ticket}x",
        f"/files/a?exp=1&sig=SIGNATURE&ticket={ticket}",
        "/v1/credits?QUERY=1",
    ):
        async with http.get(web.url + path, headers=token if "credits" in path else {}) as response:
            await response.read()
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("darkroom"))
    assert "GET /v1/credits 200" in own
    for secret in (ticket, token["Authorization"].split()[1], "SIGNATURE", "QUERY"):
        assert secret not in own


async def test_every_metric_is_known_from_the_first_scrape(web: Web, http: aiohttp.ClientSession) -> None:
    async with http.get(web.url + "/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    for name, kind in [
        ("darkroom_http_request_seconds", "histogram"),
        ("darkroom_feed_clients", "gauge"),
        ("darkroom_feed_events_total", "counter"),
        ("darkroom_feed_delivery_seconds", "histogram"),
        ("darkroom_listener_up", "gauge"),
    ]:
        assert f"# TYPE {name} {kind}" in text and f"# HELP {name} " in text
    assert 'darkroom_http_request_seconds_count{method="POST",route="/v1/tasks",status="202"} 0.0' in text


async def test_paths_with_ids_are_counted_under_their_pattern(web: Web, http: aiohttp.ClientSession) -> None:
    for path in ("/v1/tasks/secret-id", "/made-up/by-a-scanner"):
        async with http.get(web.url + path, headers=bearer("o-1")) as response:
            await response.read()
    async with http.get(web.url + "/metrics") as response:
        text = await response.text()
    assert 'count{method="GET",route="/v1/tasks/{task_id}",status="404"} 1.0' in text
    assert 'count{method="GET",route="unmatched",status="404"} 1.0' in text
    assert "secret-id" not in text and "scanner" not in text


def test_an_order_of_a_locked_account_may_be_tried_again() -> None:
    problem = problem_of(AccountLocked())
    assert problem is not None and problem.status == 503
    assert int(problem.headers["Retry-After"]) >= 1 and "nothing was stored" in problem.detail


def test_a_request_of_unknown_outcome_carries_no_advice_to_repeat_it() -> None:
    problem = problem_of(OutcomeUnknown())
    assert problem is not None
    assert (problem.status, problem.kind) == (503, "outcome_unknown")
    assert "Retry-After" not in problem.headers and "look before you try again" in problem.detail


async def test_every_answer_and_every_line_of_the_log_name_the_request(
    web: Web, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="darkroom.access"):
        told = []
        for path in (
            "/",
            "/nothing",
            "/v1/credits",
            "/v1/tasks/unknown",
            "/v1/works/feed",
            "/openai/v1/models",
        ):
            async with http.get(web.url + path, headers=bearer("o-1")) as response:
                told.append(response.headers["X-Request-Id"])
                if response.content_type == "application/problem+json":
                    assert (await response.json(content_type=None))["request_id"] == told[-1]
    assert len(set(told)) == len(told), "each has its own"
    lines = [record.__dict__ for record in caplog.records if record.name == "darkroom.access"]
    assert {each["request_id"] for each in lines} == set(told)


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("7f0c-42", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("two words", False),
        ("ünicode", False),
        ("<b>", False),
        ("", False),
    ],
)
async def test_a_callers_own_request_id_is_kept_if_it_is_short_and_harmless(
    web: Web, http: aiohttp.ClientSession, given: str, is_taken: bool
) -> None:
    for path in ("/healthz", "/v1/tasks/unknown"):
        async with http.get(web.url + path, headers={"X-Request-Id": given, **bearer("o-1")}) as response:
            told = response.headers["X-Request-Id"]
            assert (told == given) is is_taken and told


async def test_of_two_request_ids_none_is_kept_and_even_broken_http_has_one(web: Web) -> None:
    for raw in (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        [told] = [line for line in head.split("\r\n") if line.startswith("X-Request-Id: ")]
        assert len(told) > len("X-Request-Id: ") + 8, head


async def test_every_answer_forbids_sniffing_and_frames_and_shows_no_version(
    web: Web, http: aiohttp.ClientSession
) -> None:
    asked = [
        ("GET", path)
        for path in ("/", "/ops", "/docs", "/static/console.js", "/healthz", "/metrics", "/openapi.json")
    ]
    asked += [
        ("GET", "/nothing"),
        ("PUT", "/v1/tasks"),
        ("GET", "/v1/credits"),
        ("GET", "/v1/works/feed"),
        ("HEAD", "/"),
    ]
    for method, path in asked:
        async with http.request(method, web.url + path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff", path
            assert response.headers["Server"] == "Darkroom", path
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "base-uri 'none'" in policy, path
            assert "frame-ancestors 'none'" in policy and "'unsafe" not in policy, path
            assert response.headers["Referrer-Policy"] == "no-referrer", path
    for raw in (
        b"nonsense\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 0\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        assert "X-Content-Type-Options: nosniff" in head and "Server: Darkroom" in head, head
        assert "aiohttp" not in head and "Python" not in head


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"TRACE /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (
            b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            400,
        ),
        (b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_a_request_whose_bounds_are_doubtful_is_refused_as_a_whole(
    web: Web, raw: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    try:
        writer.write(raw)
        answered = await asyncio.wait_for(reader.read(), 30) if status == 400 else await reader.readline()
    finally:
        writer.close()
    assert answered.split()[1] == str(status).encode(), answered
    assert answered.count(b"\r\nServer:") <= 1, "the text hidden in it is no separate request"
