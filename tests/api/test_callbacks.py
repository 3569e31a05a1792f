"""POST /v1/callbacks/{token}: which reports of a service are accepted, and their effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config.provider import Provider
from supervisor.security.tokens import Callback, make_callback_token, make_feed_ticket, make_user_token
from supervisor.store.queue import workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import remote_wait, user_actions
from supervisor.store.tasks.user_actions import NewTask
from tests.conftest import PARAMS, dispatch
from tests.support.houses.web_server import SECRET, Web, running_web

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, token=None) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def waiting(web: Web) -> str:
    """The reference of a request whose task waits at its service."""
    settings = web.settings

    def make(tx: Any) -> str:
        workers.register(tx, "w", host="here", pid=1, slots=10)
        task_id = user_actions.submit(
            tx, settings, NewTask("o-1", "photography", {**PARAMS, "count": 1}, 0, None)
        )["task_id"]
        (claim,) = dispatch(tx, settings)
        evidence = remote_jobs.begin(tx, claim, "ai", Provider(kind="http"), 0, pictures=(0,))
        remote_jobs.accepted(tx, evidence, "r-1")
        remote_wait.hand_off(tx, task_id, claim.lease, poll_in_seconds=600, remote_limit_seconds=3600)
        return evidence.reference

    return await web.database.write_async(make)


def address(web: Web, token: str) -> str:
    return f"{web.url}/v1/callbacks/{token}"


def token_of(reference: str) -> str:
    return make_callback_token(SECRET, Callback(reference))


async def test_a_report_is_stored_with_its_signed_parts_and_makes_the_poll_due(web, session):
    reference = await waiting(web)
    headers = {
        "Webhook-Id": "w-1",
        "X-Signature": "s",
        "Content-Type": "application/json",
        "Authorization": "Bearer not-ours",
        "Cookie": "a=b",
        "X-Forwarded-For": "10.0.0.1",
    }
    async with session.post(address(web, token_of(reference)), data=b'{"n": 1}', headers=headers) as answer:
        assert answer.status == 200
    ((stored, kept),) = web.sql("SELECT body, headers FROM remote_report")
    assert stored == b'{"n": 1}'
    assert kept == '{"webhook-id":"w-1","x-signature":"s","content-type":"application/json"}'
    assert web.sql("SELECT next_poll_at <= strftime('%Y-%m-%dT%H:%M:%fZ','now') FROM task_queue") == [(1,)]


async def test_a_repeat_and_a_report_on_nothing_we_know_answer_200_and_change_nothing(web, session):
    reference = await waiting(web)
    for each, stored in ((reference, 1), (reference, 1), ("01J.1.1.0", 1)):
        async with session.post(address(web, token_of(each)), data=b"{}") as answer:
            assert answer.status == 200
        assert web.sql("SELECT count(*) FROM remote_report") == [(stored,)]


async def test_no_other_token_and_no_altered_one_may_report(web, session):
    reference = await waiting(web)
    forged = [
        "nonsense",
        make_user_token(SECRET, "o-1", "operator", ttl_seconds=600),
        make_feed_ticket(SECRET, "o-1"),
        make_callback_token("another secret, of another system", Callback(reference)),
    ]
    for token in forged:
        async with session.post(address(web, token), data=b"{}") as answer:
            assert (answer.status, answer.content_type) == (403, "application/problem+json")
    assert web.sql("SELECT count(*) FROM remote_report") == [(0,)]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_report_above_a_mebibyte_is_refused_and_one_of_just_that_is_not(web, session, chunked):
    reference = await waiting(web)

    async def pieces(size: int) -> AsyncIterator[bytes]:
        yield b"x" * size

    for size, status in ((MEBIBYTE + 1, 413), (MEBIBYTE, 200)):
        body = pieces(size) if chunked else b"x" * size
        async with session.post(address(web, token_of(reference)), data=body) as answer:
            assert answer.status == status
    came_and_was_not_kept, kept = web.sql("SELECT length(body), headers FROM remote_report ORDER BY id")
    assert came_and_was_not_kept == (0, '{"x-darkroom-report":"too large"}') and kept[0] == MEBIBYTE


async def test_a_client_cannot_fake_the_mark_of_a_report_that_was_too_large(web, session):
    reference = await waiting(web)
    headers = {"X-Darkroom-Report": "too large"}
    async with session.post(address(web, token_of(reference)), data=b"{}", headers=headers) as answer:
        assert answer.status == 200
    assert "darkroom" not in web.sql("SELECT headers FROM remote_report")[0][0]


async def test_a_report_needs_no_token_of_a_user_and_a_foreign_host_may_send_it(web, session):
    reference = await waiting(web)
    headers = {"Host": "public.example", "X-Forwarded-For": "203.0.113.9"}
    async with session.post(address(web, token_of(reference)), data=b"{}", headers=headers) as answer:
        assert answer.status == 200
