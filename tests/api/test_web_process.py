"""`python -m web` as a process of its own: it starts, prints its address, drains, and a kill loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from config.settings import Settings
from supervisor.core.errors import NotReady
from supervisor.database.interface.database import Transaction
from supervisor.database.open_database import open_database
from supervisor.net.listen_socket import listen_on
from supervisor.schema.migrate import migrate
from supervisor.store.tasks import admission
from tests.support.houses.web_server import SECRET, SseReader, bearer, until
from tests.support.repository import ROOT

PATIENCE_SECONDS = 60.0  # for what a process of its own does, on a machine with much else to do


class WebProcess:
    """The web part over a data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder, secret=SECRET, credits={"signup_grant": 100_000})
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "web.log"

    def start(self, port: int = 0) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        environ |= {
            "DARKROOM_DATA_DIR": str(self.folder),
            "DARKROOM_PORT": str(port),
            "DARKROOM_SECRET": SECRET,
        }
        environ["DARKROOM_CONFIG"] = ""
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")])
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web"], cwd=self.folder, env=environ, stderr=log
            )
        return self.process

    @property
    def url(self) -> str:
        return (self.folder / "url").read_text().strip()

    async def ready(self, http: aiohttp.ClientSession) -> None:
        """Wait for readiness; fails with what the process said when it ends instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert self.process is not None and self.process.poll() is None, self.stderr()
            with contextlib.suppress(OSError, aiohttp.ClientError):
                async with http.get(self.url + "/readyz") as response:
                    if response.status == 200:
                        return
            assert time.monotonic() < deadline, "the web part is ready"
            await asyncio.sleep(0.02)

    def stderr(self) -> str:
        return self._log.read_text()


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebProcess]:
    web = WebProcess(tmp_path)
    migrate(web.settings)
    yield web
    if web.process is not None:
        web.process.kill()
        web.process.wait()


async def test_it_says_where_it_is_and_drains_when_asked(
    web: WebProcess, http: aiohttp.ClientSession
) -> None:
    process = web.start()
    await web.ready(http)
    async with http.get(web.url + "/v1/works/feed", headers=bearer("o-1")) as response:
        feed = SseReader(response)
        await feed.take(1)
        process.send_signal(signal.SIGTERM)
        bye = await feed.next()
        assert bye is not None and bye.event == "bye"
        assert await feed.next() is None
    assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 0
    assert "Traceback" not in web.stderr()


@pytest.mark.timeout(240)  # it starts three processes, one after the other
async def test_a_feed_continues_without_a_gap_when_the_process_is_killed(
    web: WebProcess, http: aiohttp.ClientSession
) -> None:
    """Three lives of the web part, while another process goes on writing."""
    database = open_database(web.settings.database_url)
    user, total = "o-1", 600

    def write(tx: Transaction) -> None:
        for _ in range(5):
            tx.execute(
                "INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'photography', '{}')", user
            )
        admission.admit_waiting(tx, web.settings, 5).get()

    async def keep_writing() -> None:
        for _ in range(total // 5):
            await database.write_async(write)
            await asyncio.sleep(0.005)  # a pace, not a wait: the changes shall spread over the restarts

    web.start()
    await web.ready(http)
    port = int(web.url.rpartition(":")[2])
    writing = asyncio.create_task(keep_writing())
    seen, place = 0, ""
    for life_ends_at in (100, 300, total):
        headers = bearer(user) | ({"Last-Event-ID": place} if place else {})
        async with http.get(web.url + "/v1/works/feed", headers=headers) as response:
            feed = SseReader(response)
            while seen < life_ends_at:
                event = await feed.next()
                assert event is not None
                if event.event == "init":
                    assert not place
                else:
                    assert event.event == "change" and event.data["id"] == seen + 1
                seen, place = event.data["id"], str(event.id)
            assert web.process is not None
            web.process.kill()
        web.process.wait()
        if seen < total:
            web.start(port)
            await web.ready(http)
    await writing
    database.close()


async def test_a_port_that_is_taken_is_one_sentence_and_exit_2(web: WebProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = web.start(taken.getsockname()[1])
        assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 2
    last = web.stderr().strip().splitlines()[-1]
    assert "is taken" in last and "DARKROOM_PORT" in last


async def test_a_database_that_was_not_migrated_yet_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    web = WebProcess(tmp_path)
    process = web.start()
    assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 1
    assert web.stderr().strip().splitlines()[-1].endswith("run `darkroom migrate` first.")


def test_an_address_that_this_host_has_not_got_yet_is_not_a_wrong_setting() -> None:
    with pytest.raises(NotReady, match=r"192\.0\.2\.1 port"):
        listen_on("192.0.2.1", 0)


async def test_a_second_signal_stops_at_once(web: WebProcess, http: aiohttp.ClientSession) -> None:
    process = web.start()
    await web.ready(http)
    process.send_signal(signal.SIGSTOP)  # both signals are waiting when it goes on
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    await until(lambda: process.poll() is not None, "the process has ended")
    assert process.returncode in (0, 1)
