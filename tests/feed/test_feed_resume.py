"""Resuming: after a break, after a restart of web, with an unknown id; and the same by polling."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.store.tasks import admission
from tests.support.changes import make_changes
from tests.support.houses.web_server import Web, bearer, feed_of, running_web, until
from web.feed.feed_event import frame
from web.feed.stream import Batch, Event


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(
        tmp_path, database_kind, limits={"open_tasks_per_user": 0}, credits={"signup_grant": 100_000}
    ) as running:
        yield running


async def _place(http: aiohttp.ClientSession, web: Web, user: str = "o-1") -> str:
    async with feed_of(http, web, user) as feed:
        event = await feed.next()
        assert event is not None and event.id is not None
        return event.id


async def _changes(http: aiohttp.ClientSession, web: Web, user: str = "o-1", **params: Any) -> dict[str, Any]:
    async with http.get(web.url + "/v1/works/changes", params=params, headers=bearer(user)) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def test_a_stream_resumes_at_its_position_across_a_restart_of_web(
    web: Web, http: aiohttp.ClientSession
) -> None:
    place, seen = await _place(http, web), 0
    for _ in range(3):
        await make_changes(web, "o-1", 100)
        async with feed_of(http, web, "o-1", last_event_id=place) as feed:
            for event in await feed.take(100):
                assert event.event == "change" and event.data["id"] == seen + 1
                seen, place = event.data["id"], str(event.id)
            await make_changes(web, "o-1", 50)
            for event in await feed.take(50):
                assert event.data["id"] == seen + 1
                seen, place = event.data["id"], str(event.id)
        await make_changes(web, "o-1", 20)
        await web.stop()
        await web.start()
        async with feed_of(http, web, "o-1", path=f"/v1/works/feed?last_event_id={place}") as feed:
            for event in await feed.take(20):
                assert event.data["id"] == seen + 1
                seen, place = event.data["id"], str(event.id)


async def test_the_header_is_newer_than_the_address(web: Web, http: aiohttp.ClientSession) -> None:
    """EventSource repeats its address for ever and sends the header when it comes back."""
    place = await _place(http, web)
    await make_changes(web, "o-1", 3)
    newer = place.partition("-")[0] + "-2"
    async with feed_of(
        http, web, "o-1", last_event_id=newer, path=f"/v1/works/feed?last_event_id={place}"
    ) as feed:
        event = await feed.next()
        assert event is not None and event.data["id"] == 3


@pytest.mark.parametrize(
    "given", ["garbage", "0-0", "zzzz-1", "{epoch}-99", "{epoch}--1", "{epoch}-1e3", "'; --"]
)
async def test_an_unknown_id_is_answered_with_reset(
    web: Web, http: aiohttp.ClientSession, given: str
) -> None:
    await make_changes(web, "o-1", 2)
    epoch = (await _place(http, web)).partition("-")[0]
    async with feed_of(http, web, "o-1", last_event_id=given.format(epoch=epoch)) as feed:
        event = await feed.next()
        assert event is not None and event.event == "reset" and event.id == f"{epoch}-2"
        assert event.data["type"] == "reset" and len(event.data["docs"]) == 2
        await make_changes(web, "o-1", 1)
        event = await feed.next()
        assert event is not None and event.event == "change" and event.data["id"] == 3


async def test_another_users_id_is_answered_with_reset(web: Web, http: aiohttp.ClientSession) -> None:
    theirs = await _place(http, web, "o-2")
    async with feed_of(http, web, "o-1", last_event_id=theirs) as feed:
        event = await feed.next()
        assert event is not None and event.event == "reset"


async def test_an_id_that_is_no_longer_kept_is_answered_with_reset(
    web: Web, http: aiohttp.ClientSession
) -> None:
    place = await _place(http, web)
    epoch = place.partition("-")[0]
    await make_changes(web, "o-1", 5)
    web.sql("DELETE FROM work_change WHERE seq <= 3")
    for seq, first in [(0, "reset"), (2, "reset"), (3, "change"), (4, "change")]:
        async with feed_of(http, web, "o-1", last_event_id=f"{epoch}-{seq}") as feed:
            event = await feed.next()
            assert event is not None and event.event == first, seq
    web.sql("DELETE FROM work_change")
    async with feed_of(http, web, "o-1", last_event_id=f"{epoch}-5") as feed:
        await make_changes(web, "o-1", 1)
        event = await feed.next()
        assert event is not None and event.event == "change" and event.data["id"] == 6


@pytest.mark.parametrize("seq", range(7))
async def test_with_nothing_kept_only_the_newest_id_is_gone_on_from(
    web: Web, http: aiohttp.ClientSession, seq: int
) -> None:
    epoch = (await _place(http, web)).partition("-")[0]
    await make_changes(web, "o-1", 5)
    web.sql("DELETE FROM work_change")
    given = f"{epoch}-{seq}"
    answer = await _changes(http, web, since=given)
    async with feed_of(http, web, "o-1", last_event_id=given) as feed:
        if seq == 5:
            assert (answer.get("type"), answer["docChanges"], answer["next"]) == (None, [], given)
        else:
            event = await feed.next()
            assert event is not None and (event.event, event.id) == ("reset", f"{epoch}-5")
            assert (answer["type"], answer["next"], len(answer["docs"])) == ("reset", f"{epoch}-5", 5)
        await make_changes(web, "o-1", 1)
        event = await feed.next()
        assert event is not None and (event.event, event.data["id"]) == ("change", 6)


async def test_after_a_backup_was_restored_no_id_of_before_is_gone_on_from(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """Its seq may be given out again, for another change."""
    await make_changes(web, "o-1", 3)
    epoch = (await _place(http, web)).partition("-")[0]
    await web.stop()
    assert "begin anew" not in await asyncio.to_thread(_migrate, web)
    await web.start()
    assert [each["id"] for each in (await _changes(http, web, since=f"{epoch}-1"))["docChanges"]] == [2, 3]
    await web.stop()
    assert "the feeds of 1 users begin anew" in await asyncio.to_thread(_migrate, web, "--restored")
    await web.start()
    for seq in (0, 1, 3, 4):
        given = f"{epoch}-{seq}"
        answer = await _changes(http, web, since=given)
        async with feed_of(http, web, "o-1", last_event_id=given) as feed:
            event = await feed.next()
        assert event is not None and event.event == answer["type"] == "reset", seq
        assert event.id == answer["next"] and not answer["next"].startswith(epoch)
    assert answer["next"].endswith("-3"), "the account's seq stays"


def _migrate(web: Web, *options: str) -> str:
    """What `darkroom migrate` says."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environ |= {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(web.settings.data_dir)}
    environ |= {"DARKROOM_DATABASE_URL": str(web.settings.database_url)}
    command = [str(Path(sys.executable).with_name("darkroom")), "migrate", *options]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.postgresql_only
async def test_a_change_that_is_visible_after_one_with_a_higher_id_is_sent(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """On PostgreSQL the order of the log's own ids is not the order of commits: only a user's seq is."""
    for user in ("o-1", "o-2"):
        web.insert_task(user)
    has_written, may_commit = threading.Event(), threading.Event()

    def slow(tx: Any) -> None:  # of o-1: users come in order
        assert admission.admit_waiting(tx, web.settings, 1).get().rows == 1
        has_written.set()
        assert may_commit.wait(90)

    async with feed_of(http, web, "o-1") as feed, feed_of(http, web, "o-2") as other:
        for each in (feed, other):
            event = await each.next()
            assert event is not None and event.event == "init"
        writing = asyncio.create_task(web.database.write_async(slow))
        try:
            assert await asyncio.to_thread(has_written.wait, 30)
            await web.database.write_async(lambda tx: admission.admit_waiting(tx, web.settings, 1).get().rows)
            assert [event.data["id"] for event in await other.take(1)] == [1], "which the tailer has passed"
        finally:
            may_commit.set()
        await writing
        assert web.sql("SELECT user_openid FROM work_change ORDER BY log_id") == [("o-1",), ("o-2",)]
        assert [event.data["id"] for event in await feed.take(1)] == [1]


async def test_a_hole_in_the_log_is_answered_with_reset(web: Web, http: aiohttp.ClientSession) -> None:
    place = await _place(http, web)
    epoch = place.partition("-")[0]
    await make_changes(web, "o-1", 6)
    web.sql("DELETE FROM work_change WHERE seq IN (3, 6)")
    for seq in (0, 1, 2, 3, 4, 5):
        async with feed_of(http, web, "o-1", last_event_id=f"{epoch}-{seq}") as feed:
            event = await feed.next()
            assert event is not None and (event.event, event.id) == ("reset", f"{epoch}-6"), seq
        answer = await _changes(http, web, since=f"{epoch}-{seq}")
        assert (answer.get("type"), answer["next"]) == ("reset", f"{epoch}-6"), seq
    assert (await _changes(http, web, since=f"{epoch}-6"))["docChanges"] == []


async def test_a_change_that_is_pruned_before_the_tailer_has_read_it_ends_in_reset(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """A clock that is set forward by hours makes the newest change old."""
    await make_changes(web, "o-2", 1)
    async with feed_of(http, web, "o-1") as feed, feed_of(http, web, "o-2") as other:
        first = await feed.next()
        assert first is not None and first.event == "init"
        await other.take(1)
        await make_changes(web, "o-1", 1)
        assert (await feed.take(1))[0].data["id"] == 1
        waiting = asyncio.create_task(_changes(http, web, since=str(first.id).replace("-0", "-1"), wait=25))
        await until(lambda: "o-1" in web.context.hub._watchers, "the poll waits")
        web.insert_task("o-1")

        def change_and_prune(tx: Any) -> None:
            assert admission.admit_waiting(tx, web.settings, 10).get().rows
            tx.execute("DELETE FROM work_change WHERE user_openid = 'o-1'")

        await web.database.write_async(change_and_prune)
        event = await feed.next()
        assert event is not None and event.event == "reset" and event.data["id"] == 2
        assert len(event.data["docs"]) == 2
        assert (await waiting)["type"] == "reset"
        await make_changes(web, "o-1", 1)
        await make_changes(web, "o-2", 1)
        assert (await feed.take(1))[0].data["id"] == 3
        assert [(each.event, each.data["id"]) for each in await other.take(1)] == [("change", 2)]


async def test_a_busy_stream_that_is_brought_changes_with_a_hole_asks_the_log(
    web: Web, http: aiohttp.ClientSession
) -> None:
    await make_changes(web, "o-1", 5)
    async with feed_of(http, web, "o-1") as feed:
        await feed.take(1)
        (stream,) = web.context.hub._streams["o-1"]
        await until(lambda: stream.is_listening, "the stream has sent everything")
        for seqs in (
            (5, 6),
            (8,),
        ):  # the first is sent in part, so the coroutine is woken, and busy for the second
            stream.offer(Batch([Event(seq, frame("change", {"id": seq}), 0.0) for seq in seqs]))
        await make_changes(web, "o-1", 1)
        event = await feed.next()
        assert event is not None and event.data["docChanges"], "a change of the log, not the delivered one"
        assert event.data["id"] == 6


async def test_a_resumed_stream_reads_more_than_one_page_of_the_log(
    web: Web, http: aiohttp.ClientSession
) -> None:
    place = await _place(http, web)
    await make_changes(web, "o-1", 1000)
    async with feed_of(http, web, "o-1", last_event_id=place) as feed:
        assert [event.data["id"] for event in await feed.take(1000)] == list(range(1, 1001))


async def test_polling_returns_the_same_changes(web: Web, http: aiohttp.ClientSession) -> None:
    first = await _changes(http, web)
    assert first["type"] == "init" and first["docs"] == [] and first["next"].endswith("-0")
    await make_changes(web, "o-1", 600)
    seen: list[int] = []
    place = first["next"]
    while len(seen) < 600:
        answer = await _changes(http, web, since=place)
        assert "type" not in answer and answer["docChanges"]
        seen += [entry["id"] for entry in answer["docChanges"]]
        assert answer["id"] == seen[-1] and answer["next"].endswith(f"-{seen[-1]}")
        place = answer["next"]
    assert seen == list(range(1, 601))
    nothing = await _changes(http, web, since=place)
    assert nothing["docChanges"] == [] and nothing["next"] == place
    unknown = await _changes(http, web, since="garbage")
    assert unknown["type"] == "reset" and len(unknown["docs"]) == 100


async def test_polling_waits_for_something_to_come_and_no_longer(
    web: Web, http: aiohttp.ClientSession
) -> None:
    place = (await _changes(http, web))["next"]
    waiting = asyncio.create_task(_changes(http, web, since=place, wait=25))
    await until(lambda: web.context.hub.listens("o-1"), "the poll waits")
    started = time.monotonic()
    await make_changes(web, "o-1", 1)
    assert [entry["id"] for entry in (await waiting)["docChanges"]] == [1]
    assert time.monotonic() - started < 20
    assert (await _changes(http, web, since=(await _changes(http, web))["next"], wait=1))["docChanges"] == []


@pytest.mark.parametrize("wait", ["26", "-1", "x", "1.5", "", "٣"])
async def test_a_wait_out_of_bounds_is_422(web: Web, http: aiohttp.ClientSession, wait: str) -> None:
    async with http.get(
        web.url + "/v1/works/changes", params={"wait": wait}, headers=bearer("o-1")
    ) as response:
        assert response.status == 422
        assert (await response.json())["errors"][0]["pointer"] == "/wait"


async def test_waiting_polls_end_at_once_when_the_process_stops(
    web: Web, http: aiohttp.ClientSession
) -> None:
    place = (await _changes(http, web))["next"]
    waiting = asyncio.create_task(_changes(http, web, since=place, wait=25))
    await until(lambda: web.context.hub.listens("o-1"), "the poll waits")
    started = time.monotonic()
    await web.stop()
    assert time.monotonic() - started < 20
    assert (await waiting)["docChanges"] == []
    await web.start()
