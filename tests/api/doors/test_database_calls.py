"""The original's database calls on a page: some work as there, the others name a replacement."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.security.tokens import make_user_token
from tests.support.clients.node_client import FRONT_ENDS, NODE, NodeClient, node_page
from tests.support.houses.shop import USER, Shop
from tests.support.houses.web_server import SECRET, Web, running_web
from tests.support.npm_packages import npm_packages
from tests.support.repository import ROOT
from web.app.pages import CLIENT_TWIN, static_files

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="there is no Node"),
]

WORKS, TASKS = ["collection", "works"], ["collection", "task_queue"]
PARAMS = {"images": ["https://example.org/1.jpg"]}


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, limits={"open_tasks_per_user": 0}) as running:
        yield running


@pytest.fixture
async def page(web: Web, tmp_path: Path) -> AsyncIterator[NodeClient]:
    module = tmp_path / "darkroom.cjs"
    module.write_bytes(static_files()[CLIENT_TWIN].body)
    token = make_user_token(SECRET, USER, "user", ttl_seconds=600)
    async with node_page(FRONT_ENDS / "three_switches.js", module, web.url, token, USER) as running:
        yield running


async def test_works_are_asked_for_as_there(web: Web, page: NodeClient) -> None:
    shop = Shop(web)
    await shop.order(3)
    await shop.order(2, "fitting")
    done, *_ = await shop.claim()
    await shop.complete(done)
    ids = [id_ for id_, *_ in shop.truth()]
    got = await page.ask(WORKS, ["where", {"user_openid": USER}], ["orderBy", "created_at", "desc"], ["skip", 1],
                         ["limit", 2], ["get"])  # fmt: skip
    assert [doc["_id"] for doc in got["data"]] == ids[1:3] and got["errMsg"] == "collection.get:ok"
    assert (await page.ask(WORKS, ["where", {"type": "fitting"}], ["count"]))["total"] == 2
    (one,) = (
        await page.ask(WORKS, ["where", {"status": "completed"}], ["field", {"status": True}], ["get"])
    )["data"]
    assert one == {"_id": ids[-1], "status": "completed"}
    doc = await page.ask(WORKS, ["doc", ids[-1]], ["get"])
    assert doc["data"]["_id"] == ids[-1] and doc["data"]["images"][0]["url"].startswith(web.url)
    assert (await page.ask(WORKS, ["doc", ids[-1]], ["remove"]))["stats"] == {"removed": 1}
    assert (await page.ask(WORKS, ["doc", ids[-1]], ["remove"]))["stats"] == {"removed": 0}
    assert "does not exist" in (await page.ask(WORKS, ["doc", ids[-1]], ["get"]))["refused"]


async def test_callbacks_are_called_and_nothing_is_returned(web: Web, page: NodeClient) -> None:
    told = await page.ask(WORKS, ["get", {}], by="callbacks")
    assert told == {
        "returned": "undefined",
        "came": [["success", "collection.get:ok"], ["complete", "collection.get:ok"]],
    }
    told = await page.ask(WORKS, ["add", {"data": {}}], by="callbacks")
    assert [what for what, _ in told["came"]] == ["fail", "complete"] and "task_queue" in told["came"][0][1]


async def test_an_order_is_added_looked_at_cancelled_and_run_again(web: Web, page: NodeClient) -> None:
    data = {
        "_id": "task_1_abc", "user_openid": USER, "type": "photography", "status": "pending", "params": PARAMS,
        "created_at": "2026-01-31T08:00:00.000Z",
    }  # fmt: skip
    added = await page.ask(TASKS, ["add", {"data": data}])
    assert await page.ask(TASKS, ["add", {"data": data}]) == added, "the same id is the same order"
    (row,) = web.sql("SELECT id, work_id, user_openid, status FROM task_queue")
    assert row == (added["_id"], added["work_id"], USER, "pending")
    doc = (await page.ask(TASKS, ["doc", added["_id"]], ["get"]))["data"]
    assert (doc["_id"], doc["status"], doc["processing_started_at"]) == (added["_id"], "pending", None)
    for status in ("cancelled", "pending"):
        done = await page.ask(TASKS, ["doc", added["_id"]], ["update", {"data": {"status": status}}])
        assert done["stats"] == {"updated": 1}, done
        assert web.sql("SELECT status FROM task_queue") == [(status,)]
    await page.ask(TASKS, ["add", {"data": {"type": "photography", "params": PARAMS}}])
    theirs = [TASKS, ["where", {"user_openid": USER, "status": "pending"}]]
    assert (await page.ask(*theirs, ["count"]))["total"] == 2
    newest, oldest = (await page.ask(*theirs, ["orderBy", "created_at", "desc"], ["get"]))["data"]
    assert oldest["_id"] == added["_id"] and newest["created_at"] >= oldest["created_at"]


REFUSED: dict[str, list[Any]] = {
    "task_queue": [WORKS, ["add", {"data": {}}]],
    "remove the work": [WORKS, ["doc", "w"], ["update", {"data": {"status": "failed"}}]],
    "order with": [WORKS, ["doc", "w"], ["set", {"data": {}}]],
    "one document": [WORKS, ["where", {"status": "failed"}], ["remove"]],
    "reckon": [WORKS, ["aggregate"]],
    "can't keep retry_count": [
        TASKS,
        ["add", {"data": {"type": "photography", "params": PARAMS, "retry_count": 0}}],
    ],
    'begins as "pending"': [
        TASKS,
        ["add", {"data": {"type": "photography", "params": PARAMS, "status": "failed"}}],
    ],
    'only "status"': [TASKS, ["doc", "t"], ["update", {"data": {"progress": 90}}]],
    "its work": [TASKS, ["doc", "t"], ["remove"]],
}


@pytest.mark.parametrize("says", REFUSED)
async def test_calls_without_a_meaning_here_name_the_replacement(page: NodeClient, says: str) -> None:
    told = await page.ask(*REFUSED[says])
    assert re.search(says, told["refused"]) and told["kind"] == "unsupported"


async def test_a_refusal_of_the_server_keeps_its_sentence(page: NodeClient) -> None:
    told = await page.ask(TASKS, ["add", {"data": {"type": "watercolour", "params": PARAMS}}])
    assert told["refused"].startswith("collection.add:fail") and "watercolour" in told["refused"]


TYPINGS = "miniprogram-api-typings/types/wx/lib.wx.cloud.d.ts"
DECLARED = (
    "interface DatabaseCommand", "class Query", "class DocumentReference", "class CollectionReference",
    "class Database",
)  # fmt: skip


def test_every_call_that_the_original_declares_stands_in_the_table_of_both_languages() -> None:
    typings = (npm_packages() / "node_modules" / TYPINGS).read_text()
    for name in ("front-ends.md", "front-ends.zh-CN.md"):
        document = (ROOT / "docs" / name).read_text()
        table = re.split(
            r"\n## ", document[re.search(r"\n## (The original's calls|原来的调用)\n", document).end() :]
        )[0]  # type: ignore[union-attr]
        words = set(re.findall(r"[A-Za-z]+", table))
        for head in DECLARED:
            body = re.search(rf"{head}\b[^{{]*\{{(.*?)\n    \}}", typings, re.S)
            assert body, head
            members = set(re.findall(r"^        (?:readonly )?([a-zA-Z]+)[(:]", body[1], re.M))
            unknown = members - words - {"config", "constructor", "collectionName"}
            assert len(members) > 1 and not unknown, (name, head, unknown)
