"""Revoked tokens are refused at every interface; later tokens, and those of other users, are accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.ids import seconds_of_ulid, ulid_of
from supervisor.objects.open_store import open_file_store
from supervisor.security.token_proof import TOKEN, USER, Proof, is_revoked
from supervisor.security.tokens import make_user_token
from supervisor.services.sweep import sweep
from supervisor.store.limits import revocations
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.tasks.submit import submit_many
from tests.conftest import PARAMS, Store
from tests.support.command_line import darkroom
from tests.support.databases import KINDS
from tests.support.houses.web_server import (
    DEADLINE_SECONDS,
    SECRET,
    Web,
    bearer,
    feed_of,
    picture_bytes,
    running_web,
)
from web.access.authentication import DOORS, FEED_PATH, OPEN_PATHS
from web.app import revoked_streams
from web.app.app import ADDRESSES
from web.app.revoked_streams import look_once

GUARDED = [
    each for each in ADDRESSES if each.path.startswith(("/v1/", *DOORS)) and each.path not in OPEN_PATHS
]
INPUT = {"image": "https://example.org/a.jpg"}
OPENAI_ORDER = {"model": "darkroom/photography", "stream": True, **INPUT}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/images": {"data": picture_bytes(), "headers": {"Content-Type": "image/jpeg"}},
    "/v1/files": {"data": picture_bytes(), "headers": {"Content-Type": "image/jpeg"}},
    "/v1/tasks": {"json": {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}},
    "/v1/credits/{user}/grants": {"json": {"amount": 1, "reference": "order-1"}},
    "/v1/tokens": {"json": {"user": "o-1"}},
    "/fal/queue/{app_path}": {"json": INPUT},
    "/fal/run/{app_path}": {"json": INPUT},
    "/fal/proxy": {"json": INPUT},
    "/fal/storage/files/upload": {"data": picture_bytes(), "headers": {"Content-Type": "image/jpeg"}},
    "/fal/storage/upload/initiate": {"json": {}},
    "/replicate/v1/predictions": {"json": {"version": "photography", "input": INPUT}},
    "/replicate/v1/models/{owner}/{model_name}/predictions": {"json": {"input": INPUT}},
    "/replicate/v1/files": {"data": {"content": picture_bytes()}},
    "/openai/v1/images/generations": {"json": OPENAI_ORDER},
    "/openai/v1/images/edits": {"json": OPENAI_ORDER},
    "/openai/v1/images/variations": {"json": OPENAI_ORDER},
    "/v1/archives": {"json": {}},
    "/v1/works/{work_id}/shares": {"json": {"ttl_seconds": 3600}},
    "/v1/ops/bulk/preview": {"json": {"action": "cancel", "filter": {"user": "o-1"}}},
    "/v1/ops/bulk": {"json": {"action": "cancel", "filter": {"user": "o-1"}, "expected": 9}},
    "/v1/ops/users/{user}/block": {"json": {"reason": "a test"}},
    "/v1/ops/users/{user}/grants": {"json": {"amount": 1}},
    "/v1/ops/pauses": {"json": {"kind": "type", "name": "photography"}},
}


NAMES = {
    **dict.fromkeys(("task_id", "work_id", "worker_id"), "01KB7Q4W1XKQ7Y9V6J3T5M2N8P"),
    "kind": "type",
    "name": "photography",
    "user": "o-of-nobody",
    "bulk_id": "01KB7Q4W1XKQ7Y9V6J3T5M2N8P",
    "webhook_id": "msg_01K_1",
    "model": "darkroom/photography",
    "owner": "darkroom",
    "model_name": "photography",
    "version": "photography",
    "app_path": "darkroom/photography/stream",
}


def token_of(user: str, *, issued: float | None, **claims: Any) -> dict[str, str]:
    """The header of a token made by another program."""
    given = {"sub": user, "role": "admin", "exp": int(time.time()) + 600, **claims}
    given |= {} if issued is None else {"iat": issued}
    return {"Authorization": f"Bearer {jwt.encode(given, SECRET, algorithm='HS256')}"}


FAL_REQUEST = "darkroom/photography/requests/01KB7Q4W1XKQ7Y9V6J3T5M2N8P"
OF_FAL = {"POST": "darkroom/photography", "GET": FAL_REQUEST, "PUT": f"{FAL_REQUEST}/cancel"}


async def asked(http: aiohttp.ClientSession, web: Web, where: Any, headers: dict[str, str]) -> int:
    """The status of a request to one address with these headers."""
    names = NAMES | ({"app_path": OF_FAL[where.method]} if where.path == "/fal/queue/{app_path}" else {})
    path = where.path.format_map(names)
    body = dict(BODIES.get(where.path, {})) if where.method == "POST" else {}
    headers = headers | body.pop("headers", {})
    if where.path == "/fal/proxy":
        headers |= {"x-fal-target-url": f"https://queue.fal.run/{OF_FAL[where.method]}"}
    async with http.request(where.method, web.url + path, headers=headers, **body) as response:
        return response.status


@pytest.fixture(params=KINDS)
async def web(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Web]:
    monkeypatch.setattr(revoked_streams, "LOOK_SECONDS", 0.1)
    async with running_web(tmp_path, request.param) as running:
        yield running


async def test_no_interface_accepts_a_revoked_token(web: Web, http: aiohttp.ClientSession) -> None:
    for n, where in enumerate(GUARDED):
        user, is_stream = f"o-{n}", where.path == FEED_PATH
        headers = bearer(user, "admin")
        assert is_stream or await asked(http, web, where, headers) != 401, where
        await revoke(web, user)
        assert await asked(http, web, where, headers) == 401, where
        assert await asked(http, web, where, token_of(user, issued=None)) == 401, where
        assert is_stream or await asked(http, web, where, bearer(user, "admin")) != 401, where


async def revoke(web: Web, user: str) -> None:
    """As the command does; returns when a token made now is a later one."""
    now = time.time() + 0.001
    await asyncio.to_thread(web.database.write_now, lambda tx: revocations.revoke_user(tx, user, now))
    await asyncio.sleep(max(0.0, now + 0.002 - time.time()))


async def test_a_refused_order_stores_nothing_and_its_neighbours_are_stored(store: Store) -> None:
    now = time.time()
    store.write(lambda tx: revocations.revoke_user(tx, "o-1", now))
    orders = [
        NewTask(user, "photography", PARAMS, proofs=(Proof(user, issued),))
        for user, issued in (("o-1", now - 1), ("o-2", now - 1), ("o-1", now + 1))
    ]
    outcomes = store.write(lambda tx: submit_many(tx, store.settings, orders))
    assert [type(each).__name__ for each in outcomes] == ["Revoked", "Submitted", "Submitted"]
    assert store.value("SELECT count(*) FROM task_queue WHERE user_openid = 'o-1'") == 1


async def test_a_write_that_was_refused_is_taken_back(web: Web, http: aiohttp.ClientSession) -> None:
    headers = bearer("o-1")
    body = BODIES["/v1/tasks"]["json"]
    async with http.post(web.url + "/v1/tasks", json=body, headers=headers) as response:
        task = (await response.json())["task_id"]
    await revoke(web, "o-1")
    async with http.post(f"{web.url}/v1/tasks/{task}/cancel", headers=headers) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="darkroom"')
        assert (await response.json())["detail"] == "The token was revoked."
    assert web.sql("SELECT status FROM task_queue WHERE id = ?", task) == [("pending",)]


async def test_one_token_is_taken_back_by_its_id_and_the_users_others_stay(
    web: Web, http: aiohttp.ClientSession
) -> None:
    lost, kept = (make_user_token(SECRET, "o-1", ttl_seconds=600) for _ in range(2))
    token_id = jwt.decode(lost, options={"verify_signature": False})["jti"]
    await asyncio.to_thread(
        web.database.write_now, lambda tx: revocations.revoke_token(tx, token_id, time.time())
    )
    for token, status in ((lost, 401), (kept, 200)):
        headers = {"Authorization": f"Bearer {token}"}
        async with http.get(web.url + "/v1/credits", headers=headers) as response:
            assert response.status == status


async def test_a_stream_ends_when_its_token_is_taken_back_also_one_opened_by_a_ticket(
    web: Web, http: aiohttp.ClientSession
) -> None:
    service = bearer("backend", "service") | {"X-User": "o-1"}
    async with http.post(web.url + "/v1/feed-tickets", headers=service) as response:
        ticket = (await response.json())["ticket"]
    async with (
        feed_of(http, web, "o-1") as own,
        feed_of(http, web, "o-2") as of_another,
        http.get(f"{web.url}{FEED_PATH}?ticket={ticket}") as by_ticket,
    ):
        for reader in (own, of_another):
            first = await reader.next()
            assert first is not None and first.event == "init"
        assert by_ticket.status == 200
        await revoke(web, "backend")
        async with asyncio.timeout(DEADLINE_SECONDS):  # the web part looks by itself
            assert b"event: bye" in await by_ticket.content.read()
        async with http.get(f"{web.url}{FEED_PATH}?ticket={ticket}") as again:
            assert again.status == 401
        await revoke(web, "o-1")
        last = await own.next()
        assert last is not None and last.event == "bye" and await own.next() is None
        assert await look_once(web.context) == 0 and web.context.hub.stream_count == 1


async def test_links_to_files_and_other_users_are_not_concerned(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async with http.post(
        web.url + "/v1/images", data=picture_bytes(), headers=bearer("o-1") | {"Content-Type": "image/jpeg"}
    ) as response:
        link = (await response.json())["url"]
    await revoke(web, "o-1")
    async with http.get(web.url + link) as response:
        assert response.status == 200
    async with http.get(web.url + "/v1/credits", headers=bearer("o-2")) as response:
        assert response.status == 200


def test_a_row_goes_a_month_after_its_token_has_expired_and_a_users_row_stays(store: Store) -> None:
    over, alive, foreign = (
        ulid_of(time.time() - revocations.KEPT_SECONDS - 3600),
        ulid_of(time.time() - 3600),  # a clock that is a day ahead must not let it in again
        "an id of another program",
    )
    for token_id in (over, alive, foreign):
        store.write(lambda tx, token_id=token_id: revocations.revoke_token(tx, token_id, time.time()))  # type: ignore[misc]
    store.write(lambda tx: revocations.revoke_user(tx, over, 1.0))
    sweep(store.database, store.settings, open_file_store(store.settings))
    kept = store.all("SELECT kind, name FROM token_revocation")
    assert {(row["kind"], row["name"]) for row in kept} == {(TOKEN, alive), (TOKEN, foreign), (USER, over)}


def test_a_later_row_never_lets_older_tokens_in_again(store: Store) -> None:
    for moment in (100.0, 50.0):
        store.write(lambda tx, moment=moment: revocations.revoke_user(tx, "o-1", moment))  # type: ignore[misc]
    assert store.value("SELECT not_before FROM token_revocation") == 100.0


@given(issued=st.floats(0, 4e9), moment=st.floats(0, 4e9))
def test_a_token_is_revoked_exactly_if_it_is_older(issued: float, moment: float) -> None:
    rows = [{"kind": USER, "name": "o-1", "not_before": moment}]
    assert is_revoked(rows, [Proof("o-1", issued)]) == (issued < moment)
    assert not is_revoked(rows, [Proof("o-2", issued, "o-1")])  # an id is no user, and a user no id
    assert not is_revoked([{"kind": TOKEN, "name": "o-1", "not_before": moment}], [Proof("o-1", issued)])


@given(st.floats(0, 2**38))
def test_the_id_of_a_token_holds_its_end(seconds: float) -> None:
    found = seconds_of_ulid(ulid_of(seconds))
    assert found is not None and abs(found - seconds) < 0.001
    assert seconds_of_ulid("8" * 26) is None and seconds_of_ulid("another id") is None


@pytest.mark.sqlite_only
def test_the_command_takes_tokens_back_and_says_so(tmp_path: Any) -> None:
    assert darkroom(tmp_path, "migrate").returncode == 0
    done = darkroom(tmp_path, "token", "revoke", "o-1")
    assert (done.returncode, done.stdout) == (0, "the tokens that o-1 had are good no more\n")
    done = darkroom(tmp_path, "token", "revoke", "--id", "01KB7Q4W1XKQ7Y9V6J3T5M2N8P")
    assert done.stdout == "the token 01KB7Q4W1XKQ7Y9V6J3T5M2N8P is good no more\n"
    for wrong in ([], ["o-1", "--id", "x"], ["a\nb"]):
        refused = darkroom(tmp_path, "token", "revoke", *wrong)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert (
        darkroom(tmp_path, "token", "--role", "user", "revoke").stdout.count(".") == 2
    )  # a user of that name
    assert "revoke" in darkroom(tmp_path, "token", "--help").stdout
