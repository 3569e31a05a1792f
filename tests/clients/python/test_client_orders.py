"""Our client for Python orders, waits, cancels, retries and fetches, blocking or not, and never orders twice."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import darkroom_client as api
import pytest
import pytest_asyncio

from supervisor.store.tasks import submit
from tests.support.clients.python_client import KINDS, AnyClient, any_client
from tests.support.houses.door_shop import REFUSED, DoorShop, door_shop
from tests.support.houses.web_server import picture_bytes, until
from tests.support.servers.cutting_proxy import ANSWER, POINTS, STORED, cutting_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

POSTER = {
    "inputs": {"images": [0, 4], "files": [0, 2]},
    "parameters": {"properties": {"quality": {"enum": ["sd", "hd"]}}, "additionalProperties": False},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DoorShop]:
    async with door_shop(
        tmp_path_factory.mktemp("shop"),
        tasks={"poster": POSTER},
        credits={"signup_grant": 10},
        limits={"open_tasks_per_user": 4},
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Retry-After` be a second, of which the client waits each bit."""
    for name in ("RETRY_AFTER_OPEN_SECONDS", "RETRY_AFTER_FULL_SECONDS"):
        monkeypatch.setattr(submit, name, 1)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"o-{request.node.name[:80]}"


@pytest_asyncio.fixture(loop_scope="module")
async def client(shop: DoorShop, user: str, kind: str) -> AsyncIterator[AnyClient]:
    async with any_client(kind, shop.url, shop.key(user), patience_seconds=20) as made:
        yield made


async def test_an_order_is_made_watched_and_fetched(
    shop: DoorShop, client: AnyClient, user: str, tmp_path: Path
) -> None:
    seen: list[api.Work] = []
    asked = asyncio.create_task(
        client.call("run", "poster", prompt="wait", count=2, on_progress=seen.append, timeout_seconds=80)
    )
    (claim,) = await shop.held_of(user)
    await until(lambda: seen, "the client watches")
    await shop.progress(claim, 40)
    await until(lambda: seen[-1].progress == 40, "progress is told")
    await shop.complete(claim)
    task = await asked
    assert (task.status, task.progress, len(task.images), task.has_ended) == ("completed", 100, 2, True)
    assert seen[-1].status == "completed" and [work.progress for work in seen] == sorted(
        work.progress for work in seen
    )
    assert await client.call("fetch", task.images[0]) == shop.picture
    saved = await client.call("download", task, tmp_path / "new" / "folder")
    assert [path.read_bytes() for path in saved] == [shop.picture] * 2
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(saved), "nothing lies beside them"
    assert [entry.kind for entry in (await client.call("credits")).entries] == ["debit", "grant"]


async def test_inputs_are_paths_bytes_open_files_ids_uploads_and_addresses(
    shop: DoorShop, client: AnyClient, user: str, tmp_path: Path
) -> None:
    path = tmp_path / "portrait.jpg"
    path.write_bytes(picture_bytes())
    uploaded = await client.call("upload", picture_bytes(), name="日本.jpg")
    assert uploaded.name == "日本.jpg" and uploaded.media_type == "image/jpeg"
    for images in (
        path,
        str(path),
        picture_bytes(color=(1, 2, 3)),
        io.BytesIO(picture_bytes()),
        uploaded,
        uploaded.id,
        "https://example.org/a.jpg",
        [path, uploaded],
    ):
        order = await client.call("order", "poster", images=images, prompt="wait")
        wanted = shop.params(order.task_id)["images"]
        assert len(wanted) == (2 if isinstance(images, list) else 1)
        uploads = [each for each in wanted if not each.startswith("https:")]
        for each in uploads:
            assert shop.web.sql("SELECT user_openid FROM image WHERE id = ?", each) == [(user,)]
        await client.call("cancel", order)
    notes = await client.call("order", "poster", files=[io.BytesIO(b"some words")], prompt="wait")
    assert len(shop.params(notes.task_id)["files"]) == 1
    with pytest.raises(ValueError, match="https"):
        await client.call("order", "poster", images="http://example.org/a.jpg")
    with pytest.raises(FileNotFoundError):
        await client.call("order", "poster", images=tmp_path / "none.jpg")
    with pytest.raises(TypeError, match="quality"):
        await client.call("order", "poster", quality="hd")


async def test_every_member_of_an_order_arrives(shop: DoorShop, client: AnyClient, user: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    order = await client.call(
        "order", "poster", prompt="wait", count=3, scene="night", parameters={"quality": "hd"}, priority=-2,
        run_after=later, webhook="https://example.org/hook",
    )  # fmt: skip
    assert shop.params(order.task_id) == {
        "prompt": "wait", "count": 3, "sceneId": "night", "parameters": {"quality": "hd"},
    }  # fmt: skip
    ((priority, run_after),) = shop.web.sql(
        "SELECT priority, run_after FROM task_queue WHERE id = ?", order.task_id
    )
    assert priority == -2 and abs(datetime.fromisoformat(run_after) - later) < timedelta(milliseconds=2)
    assert (order.status, order.is_replay) == ("pending", False)


async def test_several_orders_are_waited_for_at_once(shop: DoorShop, client: AnyClient, user: str) -> None:
    asked = [asyncio.create_task(client.call("run", "poster", prompt=f"wait {n}")) for n in range(3)]
    for claim in await shop.held_of(user, 3):
        await shop.complete(claim)
    assert {task.status for task in await asyncio.gather(*asked)} == {"completed"}
    assert len(shop.tasks(user)) == shop.debits(user) == 3


async def test_an_estimate_stores_nothing(shop: DoorShop, client: AnyClient, user: str) -> None:
    told = await client.call("estimate", "poster", prompt="a fair", count=4)
    assert (told.credits, told.balance) == (4, 10) and shop.tasks(user) == []


async def test_a_task_is_cancelled_retried_listed_and_its_work_deleted(
    shop: DoorShop, client: AnyClient, user: str
) -> None:
    order = await client.call("order", "poster", prompt="wait")
    assert (await client.call("cancel", order)).status == "cancelled"
    with pytest.raises(api.TaskCancelled):
        await client.call("wait", order)
    with pytest.raises(api.Conflict, match="already cancelled"):
        await client.call("cancel", order)
    assert (await client.call("retry", order)).status == "pending"
    (task,) = [each async for each in client.each("tasks", type="poster")]
    (work,) = [each async for each in client.each("works")]
    assert (
        task.task_id == work.task_id == order.task_id and (await client.call("work", work.id)).id == work.id
    )
    await client.call("delete_work", work.id)
    assert (await client.call("task", task)).status == "cancelled"
    with pytest.raises(api.NotFound):
        await client.call("work", work.id)
    assert [each["type"] for each in await client.call("types")].count("poster") == 1


async def test_a_task_that_fails_raises_its_sentence(client: AnyClient) -> None:
    with pytest.raises(api.TaskFailed, match=REFUSED) as raised:
        await client.call("run", "poster", prompt="refuse")
    assert raised.value.code == "content_rejected" and raised.value.task.status == "failed"


async def test_a_wait_ends_in_time_and_the_task_goes_on(shop: DoorShop, client: AnyClient, user: str) -> None:
    order = await client.call("order", "poster", prompt="wait")
    begun = time.monotonic()
    with pytest.raises(api.StillRunning):
        await client.call("wait", order, 0.3)
    assert time.monotonic() - begun >= 0.3
    assert (await client.call("task", order)).status == "processing"


async def test_bad_input_too_few_credits_and_limits_raise_their_own_errors(
    shop: DoorShop, client: AnyClient, user: str
) -> None:
    with pytest.raises(api.BadInput) as bad:
        await client.call("order", "poster", count=99, parameters={"quality": "ultra"})
    assert bad.value.status == 422 and {place for place, _ in bad.value.mistakes} == {
        "/params/count",
        "/params/parameters/quality",
    }
    with pytest.raises(api.BadInput, match="picture"):
        await client.call("order", "poster", images=b"no picture at all")
    for n in range(2):
        await client.call("order", "poster", prompt=f"wait {n}", count=4)
    with pytest.raises(api.InsufficientCredits, match="costs 3 credits and the balance is 2") as poor:
        await client.call("order", "poster", prompt="wait", count=3)
    assert poor.value.code == "insufficient_credits"
    for n in range(2):
        await client.call("order", "poster", prompt=f"wait {n}")
    hurried = api.Darkroom(shop.url, shop.key(user), patience_seconds=0.5)
    with pytest.raises(api.LimitReached, match="4 open tasks") as limit:
        await asyncio.to_thread(hurried.order, "poster", prompt="wait")
    assert limit.value.retry_after == 1 and limit.value.key
    hurried.close()
    assert len(shop.tasks(user)) == 4


async def test_an_order_above_a_limit_is_accepted_once_there_is_room(
    shop: DoorShop, client: AnyClient, user: str
) -> None:
    for n in range(4):
        await client.call("order", "poster", prompt=f"wait {n}")
    fifth = asyncio.create_task(client.call("order", "poster", prompt="wait 5"))
    for claim in await shop.held_of(user, 4):
        await shop.complete(claim)
    assert (await fifth).status == "pending"


async def test_a_full_queue_is_waited_for_and_told_when_patience_ends(
    shop: DoorShop, user: str, kind: str, tmp_path: Path
) -> None:
    limits = {"pending_tasks": 1, "running_tasks_per_user": 1}
    async with (
        door_shop(tmp_path / kind, tasks={"poster": POSTER}, limits=limits) as small,
        any_client(kind, small.url, small.key(user)) as client,
    ):
        await client.call("order", "poster", prompt="wait")
        (claim,) = await small.held_of(user)
        await client.call("order", "poster", prompt="wait 2")
        async with any_client(kind, small.url, small.key(user), patience_seconds=0.5) as hurried:
            with pytest.raises(api.Unavailable, match="holds 1 waiting") as full:
                await hurried.call("order", "poster", prompt="wait 3")
        assert full.value.code == "queue_full" and full.value.retry_after
        patient = asyncio.create_task(client.call("order", "poster", prompt="wait 3"))
        await small.complete(claim)
        assert (await patient).status == "pending" and len(small.tasks(user)) == 3


async def test_a_token_is_renewed_once_however_many_requests_find_it_refused(
    shop: DoorShop, user: str, kind: str
) -> None:
    given: list[str] = []

    def token() -> str:
        given.append("x.y.z" if not given else shop.key(user))
        return given[-1]

    async with any_client(kind, shop.url, token) as client:
        orders = [client.call("order", "poster", prompt="wait") for _ in range(4)]
        assert len({order.task_id for order in await asyncio.gather(*orders)}) == 4
    assert len(given) == 2
    async with any_client(kind, shop.url, "x.y.z") as client:
        with pytest.raises(api.Unauthorized, match="token"):
            await client.call("credits")


async def test_an_async_function_may_give_the_token(shop: DoorShop) -> None:
    async def token() -> str:
        return shop.key("o-async")

    async with api.AsyncDarkroom(shop.url, token) as client:
        assert (await client.credits()).balance == 10


async def test_a_service_acts_for_users_grants_and_issues_tokens(
    shop: DoorShop, user: str, kind: str
) -> None:
    async with any_client(kind, shop.url, shop.key("backend", "service"), user=user) as service:
        order = await service.call("order", "poster", prompt="wait")
        assert shop.tasks(user) == [order.task_id]
        other = AnyClient(service.client.as_user(f"{user}-2"))
        with pytest.raises(api.NotFound):
            await other.call("task", order)
        balance = await service.call("grant", f"{user}/2 ü", 5, f"invoice-{kind}")
        assert await service.call("grant", f"{user}/2 ü", 5, f"invoice-{kind}") == balance
        assert (await service.call("credits", f"{user}/2 ü")).balance == balance
        issued = await service.call("issue_token", user, 60)
    async with any_client(kind, shop.url, issued.token) as own:
        assert (await own.call("task", order)).task_id == order.task_id


async def test_what_is_not_darkroom_is_told_as_such(kind: str, shop: DoorShop) -> None:
    async with any_client(kind, shop.url + "/docs?", None) as client:
        with pytest.raises(api.UnexpectedAnswer):
            await client.call("credits")
    async with any_client(kind, "http://127.0.0.1:9", None, patience_seconds=0) as client:
        with pytest.raises(api.ConnectionFailed) as failed:
            await client.call("order", "poster", prompt="a fair", key="order-7")
    assert failed.value.key == "order-7"
    with pytest.raises(ValueError, match="https"):
        api.Darkroom("localhost:8000")


# --- connections that are cut ---


@pytest.mark.parametrize("point", [*POINTS, ANSWER])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_order_is_one_task_wherever_its_connection_is_cut(
    shop: DoorShop, user: str, kind: str, point: str, times: int
) -> None:
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = [point] * times, lambda: until(lambda: shop.tasks(user), "it is stored")
        async with any_client(kind, proxy.url, shop.key(user)) as client:
            order = await client.call("order", "poster", prompt="wait")
    assert proxy.posts == times + 1
    assert shop.tasks(user) == [order.task_id] and shop.debits(user) == 1
    if point in (STORED, ANSWER):
        assert order.is_replay


@pytest.mark.parametrize("step", ["cancel", "retry"])
async def test_a_cancel_and_a_retry_that_are_cut_are_done_once(
    shop: DoorShop, user: str, kind: str, step: str
) -> None:
    status = {"cancel": "cancelled", "retry": "pending"}[step]
    async with cutting_proxy(shop.url) as proxy, any_client(kind, proxy.url, shop.key(user)) as client:
        order = await client.call("order", "poster", prompt="wait")
        await shop.held_of(user)
        if step == "retry":
            await client.call("cancel", order)

        def is_done() -> bool:
            ((now,),) = shop.web.sql("SELECT status FROM task_queue WHERE id = ?", order.task_id)
            return bool(now == status or (step == "retry" and now == "processing"))

        proxy.plan, proxy.is_stored = [STORED], lambda: until(is_done, "it is done")
        task = await client.call(step, order)
        assert task.status in (status, "processing") and shop.debits(user) == (2 if step == "retry" else 1)


async def test_an_upload_that_is_cut_is_sent_again(shop: DoorShop, user: str, kind: str) -> None:
    async with cutting_proxy(shop.url) as proxy, any_client(kind, proxy.url, shop.key(user)) as client:
        proxy.plan = ["in the body", "after the request"]
        assert (await client.call("upload", picture_bytes())).width == 64
        assert proxy.posts == 3


async def test_a_key_of_ones_own_names_one_task_from_any_process(client: AnyClient, shop: DoorShop) -> None:
    first = await client.call("order", "poster", prompt="wait", key="invoice-7")
    again = await client.call("order", "poster", prompt="wait", key="invoice-7")
    assert again.task_id == first.task_id and (first.is_replay, again.is_replay) == (False, True)
    with pytest.raises(api.BadInput) as reused:
        await client.call("order", "poster", prompt="wait for another", key="invoice-7")
    assert reused.value.code == "idempotency_key_reused"


async def test_a_server_that_restarts_is_waited_for(tmp_path: Path, kind: str, user: str) -> None:
    async with (
        door_shop(tmp_path / kind, tasks={"poster": POSTER}) as shop,
        any_client(kind, shop.url, shop.key(user)) as client,
    ):
        order = await client.call("order", "poster", prompt="wait")
        waiting: asyncio.Task[Any] = asyncio.create_task(client.call("wait", order, 80))
        (claim,) = await shop.held_of(user)
        await until(lambda: shop.web.context.hub.stream_count, "it is watched")
        await shop.web.server.stop()
        asked = asyncio.create_task(client.call("order", "poster", prompt="wait too"))
        await shop.web.start()
        await shop.complete(claim)
        assert (await waiting).status == "completed" and (await asked).status == "pending"
