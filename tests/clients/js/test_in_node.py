"""The installed package in Node, as a module and as CommonJS, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from supervisor.security.tokens import make_user_token
from tests.support.clients.node_client import NodeClient, node_client
from tests.support.clients.npm_package import Project, packed
from tests.support.houses.door_shop import REFUSED, DoorShop, door_shop
from tests.support.houses.web_server import SECRET, picture_bytes
from tests.support.npm_packages import NODE, NPM
from tests.support.servers.faulty_proxy import FEED, FaultyProxy

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node"),
]

USER = "o-1"
POSTER = {"inputs": {"images": [0, 4]}}
QUICK = {"streamAgainMs": 1000, "longestPauseMs": 1000}
Client = Callable[..., AbstractAsyncContextManager[NodeClient]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("app"), packed(tmp_path_factory.mktemp("packed")))
    made.write("entry.mjs", 'export * from "darkroom-client";')
    made.write("entry.cjs", 'module.exports = require("darkroom-client");')
    return made


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[DoorShop]:
    async with door_shop(tmp_path, tasks={"poster": POSTER}, credits={"signup_grant": 5}) as running:
        yield running


@pytest.fixture
async def proxy(shop: DoorShop) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(shop.url).running() as running:
        yield running


@pytest.fixture(params=["module in Node 22", "CommonJS in the system's Node"])
def client(request: pytest.FixtureRequest, project: Project, shop: DoorShop, proxy: FaultyProxy) -> Client:
    is_module = request.param.startswith("module")

    def make(*tokens: str) -> AbstractAsyncContextManager[NodeClient]:
        return node_client(
            project.folder / ("entry.mjs" if is_module else "entry.cjs"),
            proxy.url,
            *(tokens or (shop.key(USER),)),
            node=project.node if is_module else None,
            timing=QUICK,
        )

    return make


def poster(prompt: str, **more: Any) -> dict[str, Any]:
    return {"type": "poster", "params": {"prompt": prompt, **more}}


async def refusal(client: NodeClient, method: str, *args: Any) -> dict[str, Any]:
    """The error that a call is rejected with."""
    before = len(client.said)
    client.do("call", method=method, args=args)
    line = await client.until(
        lambda: next((each for each in client.said[before:] if each.get("method") == method), None), "an end"
    )
    assert "error" in line, line
    return dict(line["error"])


async def test_an_order_is_estimated_made_cancelled_run_again_and_paid_each_time(
    shop: DoorShop, client: Client
) -> None:
    async with client() as page:
        told = await page.call("estimate", poster("wait", count=2))
        assert (told["credits"], told["balance"]) == (2, 5) and not shop.tasks(USER)
        made = await page.call("submit", poster("wait", count=2))
        (claim,) = await shop.held_of(USER)
        assert (made["task_id"], made["status"]) == (claim.task_id, "pending")
        assert (await page.call("cancel", claim.task_id))["status"] == "cancelled"
        assert (await page.call("credits"))["balance"] == 5
        shop.held.clear()
        assert (await page.call("retry", claim.task_id))["status"] == "pending"
        (claim,) = await shop.held_of(USER)
        await shop.complete(claim)
        task = await page.call("task", claim.task_id)
        assert task["status"] == "completed" and len(task["result"]["images"]) == 2
        assert (await page.call("credits"))["balance"] == 3
        assert shop.tasks(USER) == [claim.task_id] and shop.debits(USER) == 2


async def test_an_order_whose_answer_is_lost_is_one_task(
    shop: DoorShop, proxy: FaultyProxy, client: Client
) -> None:
    async with client() as page:
        proxy.loses_answer_of = "/v1/tasks"
        made = await page.call("submit", poster("a fair"))
        assert proxy.loses_answer_of == "" and len(proxy.asked("/v1/tasks")) == 2
        assert shop.tasks(USER) == [made["task_id"]] and shop.debits(USER) == 1


async def test_a_call_that_is_refused_is_rejected_with_the_servers_sentence(
    shop: DoorShop, client: Client
) -> None:
    async with client() as page:
        wrong = await refusal(page, "submit", poster("x" * 4001))
        assert wrong["status"] == 422 and "4000" in wrong["message"]
        assert (await refusal(page, "submit", {"type": "statue", "params": {}}))["status"] == 422
        assert (await refusal(page, "estimate", poster("a fair", count=99)))["status"] == 422
        dear = await refusal(page, "submit", poster("a fair", count=8))
        assert (dear["status"], dear["kind"]) == (402, "insufficient_credits") and "8" in dear["message"]
        assert (await refusal(page, "task", "01NOSUCHTASK"))["status"] == 404
        made = await page.call("submit", poster("refuse"))
        await page.until(lambda: shop.web.sql("SELECT 1 FROM task_queue WHERE status = 'failed'"), "it fails")
        assert (await page.call("task", made["task_id"]))["error"]["message"] == REFUSED
        assert (await refusal(page, "cancel", made["task_id"]))["status"] == 409
    async with client("no token") as page:
        assert (await refusal(page, "credits"))["status"] == 401


async def test_a_watch_resumes_after_cuts_without_a_gap(
    shop: DoorShop, proxy: FaultyProxy, client: Client
) -> None:
    async with client() as page:
        page.do("watch")
        await page.until(page.snapshots, "the first list")
        made = await page.call("submit", poster("wait"))
        (claim,) = await shop.held_of(USER)
        for percent in (20, 40, 60, 80):
            proxy.cut()
            await shop.progress(claim, percent)
            await page.until(
                lambda p=percent: page.docs() and page.docs()[0]["progress"] == p, f"{percent} %"
            )
        assert len(proxy.asked(FEED)) > 1
        await shop.complete(claim)
        await page.until(lambda: page.docs()[0]["status"] == "completed", "its end")
        first, *told = page.snapshots()
        assert first["type"] == "init" and [each["id"] for each in told] == list(range(1, len(told) + 1))
        assert page.docs()[0]["_id"] == made["work_id"] and not page.errors()
        assert page.docs()[0]["images"][0]["url"].startswith(proxy.url)


async def test_a_token_is_renewed_in_the_middle_of_a_watch(shop: DoorShop, client: Client) -> None:
    ended = make_user_token(SECRET, USER, ttl_seconds=-60)
    async with client(ended, shop.key(USER)) as page:
        page.do("watch")
        await page.until(page.snapshots, "the first list")
        await page.call("submit", poster("a fair"))
        await page.until(lambda: page.docs() and page.docs()[0]["status"] == "completed", "its end")
        assert [line["asked"] for line in page.said if "asked" in line] == [False, True]
        assert not page.errors()


async def output(project: Project, program: str | Path, *args: str | Path) -> str:
    """What a program prints until it ends, which it does by itself."""
    path = project.take(program) if isinstance(program, str) else program
    process = await asyncio.create_subprocess_exec(
        project.node, "--disable-warning=ExperimentalWarning", path, *args,
        cwd=project.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        raise AssertionError(f"{program} still runs") from None
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_a_program_uploads_a_file_orders_waits_for_the_end_and_ends(
    shop: DoorShop, project: Project
) -> None:
    photo = project.folder / "photo.jpg"
    photo.write_bytes(picture_bytes(size=(300, 200)))
    told = json.loads(await output(project, "program.mts", shop.url, shop.key(USER), photo))
    assert (told["status"], told["left"]) == ("completed", 4)
    assert all(url.startswith(f"{shop.url}/files/") for url in told["urls"]) and len(told["urls"]) == 1
    (task,) = shop.tasks(USER)
    (image,) = shop.params(task)["images"]
    assert shop.web.sql("SELECT user_openid, width FROM image WHERE id = ?", image) == [(USER, 300)]


async def test_a_program_that_is_refused_gets_the_sentence_and_the_place(
    shop: DoorShop, project: Project
) -> None:
    text = project.write("photo.txt", "no picture")
    told = json.loads(await output(project, "program.mts", shop.url, shop.key(USER), text))
    assert told["refused"] == 415 and "picture" in told["message"].lower()
    told = json.loads(await output(project, "program.mts", shop.url, "no token"))
    assert told["refused"] == 401 and told["kind"] == "unauthorized"
    assert not shop.tasks(USER)


@pytest.mark.parametrize("when", ["list", "change", "live", "polling", "error"])
async def test_a_watch_that_is_closed_in_its_own_handler_leaves_nothing_running(
    shop: DoorShop, proxy: FaultyProxy, project: Project, when: str
) -> None:
    proxy.buffers = when == "polling"
    proxy.is_down = when == "error"
    said = await output(project, "closing.mjs", proxy.url, shop.key(USER), when)
    assert said == "closed\n" + ("then 1\n" if when == "polling" else "")


async def test_a_backend_acts_for_the_user_whom_it_names(
    shop: DoorShop, proxy: FaultyProxy, project: Project
) -> None:
    program = """
        import { database } from "darkroom-client";
        const [, , baseUrl, token, user] = process.argv;
        const db = database({ baseUrl, token, user });
        const { work_id } = await db.submit({ type: "poster", params: { prompt: "a fair" } });
        const watcher = db.collection("works").watch({
          onChange: ({ docs }) => {
            if (docs[0]?.status !== "completed") return;
            console.log(docs[0]._id === work_id, docs[0].user_openid);
            watcher.close();
          },
        });"""
    path = project.write("backend.mjs", program)
    said = await output(project, path, proxy.url, shop.key("backend", "service"), USER)
    assert said == f"true {USER}\n" and shop.debits(USER) == 1


async def test_users_and_keys_have_any_letters_and_no_secret_stands_in_an_error(
    shop: DoorShop, project: Project
) -> None:
    program = """
        import { database } from "darkroom-client";
        const [, , baseUrl, token] = process.argv;
        const order = { type: "poster", params: { prompt: "a fair" } };
        const db = database({ baseUrl, token: `${token}\\n`, user: "用户-é" });
        console.log(typeof (await db.submit(order)).task_id);
        for (const [secret, key] of [["sec\\nret", "k"], [token, "sec\\nret"], [token, "ключ"]]) {
          try { await database({ baseUrl, token: secret, user: "用户-é" }).submit(order, { key }); }
          catch ({ status, message }) { console.log(status, /sec|ret/.test(message)); }
        }"""
    path = project.write("letters.mjs", program)
    said = await output(project, path, shop.url, shop.key("backend", "service"))
    assert said.split("\n")[:3] == ["string", "422 false", "422 false"] and shop.debits("用户-é") == 1, said
