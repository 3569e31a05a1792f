"""The examples and third-party clients with one running system: complete, live, and also after a break."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.lifecycle import Status
from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.fakes.fake_wechat import APP_ID, APP_SECRET, FakeWeChat, fake_wechat
from tests.support.houses.shop import USER, Shop
from tests.support.houses.web_server import bearer, running_web
from tests.support.npm_packages import NODE, NPM, npm_packages
from tests.support.repository import ROOT
from tests.support.running_system import PACED, SAMPLES, RunningSystem, running_system
from tests.support.waiting import eventually
from web.app.pages import CLIENT, CLIENT_TWIN, STATIC

EXAMPLES, FRONT_ENDS = ROOT / "examples", ROOT / "tests" / "front_ends"
PORTRAIT = SAMPLES / "portrait.png"
IS_MISSING = not (NODE and NPM and CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI")

pytestmark = [pytest.mark.system, pytest.mark.skipif(IS_MISSING, reason="there is no Node or no Chromium")]


@pytest.fixture(scope="module")
def wechat() -> Iterator[FakeWeChat]:
    """WeChat's log-in server, on an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = fake_wechat()
    yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(20)
    asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


@pytest.fixture(scope="module")
def app_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The browser example, served from an address of its own."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLES / "browser", folder, dirs_exist_ok=True)
    shutil.copy(STATIC / CLIENT, folder)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_address[1]}"
        site.shutdown()


@pytest.fixture(scope="module")
def house(wechat: FakeWeChat, app_site: str) -> Iterator[RunningSystem]:
    with running_system(
        lifted=False,
        **PACED
        | {
            "ALLOWED_ORIGINS": app_site,
            "PROVIDERS__paced__OPTIONS__step_seconds": "0.1",
            "WECHAT__APP_ID": APP_ID,
            "WECHAT__APP_SECRET": APP_SECRET,
            "WECHAT__URL": wechat.url,
        },
    ) as running:
        yield running


class Lines:
    """What a program writes, line by line, as it writes it."""

    def __init__(self, *command: str | Path, **environ: str) -> None:
        self.process = subprocess.Popen(
            [str(each) for each in command], env={**os.environ, **environ}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.seen: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def all(self) -> list[str]:
        with contextlib.suppress(queue.Empty):
            while True:
                self.seen.append(self._lines.get_nowait())
        return self.seen

    def until(self, pattern: str, claim: str) -> None:
        """Wait for a line like this."""

        def is_seen() -> bool:
            assert self.process.poll() in (None, 0), self.process.stderr and self.process.stderr.read()
            return any(re.search(pattern, line) for line in self.all())

        eventually(claim, is_seen)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture
def program() -> Iterator[Callable[..., Lines]]:
    """Starts a program and reads its lines; ends it, and its children, with the test."""
    started: list[Lines] = []

    def start(*command: str | Path, **environ: str) -> Lines:
        started.append(Lines(*command, **environ))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"o-{abs(hash(request.node.name))}"


def ask(house: RunningSystem, token: str, method: str, path: str, body: Any = None) -> Any:
    """The JSON of an answer."""
    request = urllib.request.Request(
        house.url + path, method=method, headers={"Authorization": f"Bearer {token}"}
    )
    if isinstance(body, bytes):
        request.add_header("Content-Type", "image/png")
    elif body is not None:
        request.add_header("Content-Type", "application/json")
    request.data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def order(house: RunningSystem, token: str) -> str:
    """A photography task; its work's id."""
    image = ask(house, token, "POST", "/v1/images", PORTRAIT.read_bytes())
    task = {"type": "photography", "params": {"images": [image["id"]]}}
    return str(ask(house, token, "POST", "/v1/tasks", task)["work_id"])


def kill_web(house: RunningSystem) -> None:
    """The web part dies, and another takes its place."""
    pid = house.pids()["web"]
    os.kill(pid, signal.SIGKILL)
    eventually("another web process", lambda: house.pids()["web"] not in (0, pid))


def client_file(house: RunningSystem, name: str) -> bytes:
    with urllib.request.urlopen(f"{house.url}/static/{name}", timeout=20) as answer:
        return bytes(answer.read())


def test_the_mini_program_orders_a_picture_shows_its_progress_and_says_when_it_is_done(
    house: RunningSystem, wechat: FakeWeChat, program: Callable[..., Lines], tmp_path: Path
) -> None:
    wechat.codes["code-1"] = "o-wechat-1"
    shutil.copytree(EXAMPLES / "mini-program", tmp_path, dirs_exist_ok=True)
    (tmp_path / "darkroom.js").write_bytes(client_file(house, CLIENT_TWIN))
    phone = program(NODE or "node", FRONT_ENDS / "mini_program.mjs", tmp_path, house.url, "code-1", PORTRAIT)
    phone.until('"running"', "it has lived to its end")
    shown = [json.loads(line) for line in phone.all()]
    last = shown.pop()
    works = [page["works"][0] for page in shown if page["works"]]
    assert len({work["progress"] for work in works}) >= 3, "bars move"
    assert works[0]["isOpen"] and not works[-1]["isOpen"] and works[-1]["status"] == "已完成"
    assert works[-1]["pictures"][0].startswith("https://pictures.example.com/files/"), (
        "as a phone can load it"
    )
    assert last == {"running": 0, "toasts": ["照片好了"]}, "one toast; nothing is left open"
    assert house.one("SELECT user_openid FROM task_queue WHERE user_openid LIKE 'o-wechat%'") == (
        "o-wechat-1",
    )
    assert wechat.asked == ["code-1"], "one log-in for everything"


def test_the_browser_page_works_from_another_origin(house: RunningSystem, app_site: str, user: str) -> None:
    browser = Browser("about:blank")
    try:
        browser.driver.get(f"{app_site}/#baseUrl={house.url}&token={house.token(user)}")
        eventually("it is live", lambda: browser.text("[role=status]") == "live")
        browser.find("input").send_keys(str(PORTRAIT))
        browser.find("button").click()
        eventually(
            "the bar moves", lambda: browser.js("return document.querySelector('progress')?.value > 20")
        )
        eventually(
            "the picture is shown",
            lambda: browser.js("return document.querySelector('li img')?.naturalWidth > 0"),
        )
        assert browser.complaints() == []
    finally:
        browser.quit()


async def test_the_browser_page_says_each_of_the_six_statuses_and_breaks_no_rule_of_axe_on_a_phone(
    app_site: str, tmp_path: Path
) -> None:
    async with running_web(tmp_path, allowed_origins=app_site, limits={"running_tasks_per_user": 0}) as web:
        shop = Shop(web)
        await shop.order(5)
        done, failed, running, handed, cancelled = await shop.claim()
        await shop.order(1)
        await shop.complete(done)
        await shop.fail(failed)
        await shop.progress(running, 27)
        await shop.hand_off(handed)
        await shop.cancel(cancelled.task_id)
        assert {status for _, status, _ in shop.truth()} == {str(status) for status in Status}
        token = bearer(USER)["Authorization"].removeprefix("Bearer ")
        said = await asyncio.to_thread(look_at_works, f"{app_site}/#baseUrl={web.url}&token={token}", 6)
    assert len(set(said)) == 6 and not any("undefined" in each for each in said), said
    assert any("27 %" in each for each in said) and sum("%" in each for each in said) == 3, "of what is open"


def look_at_works(address: str, count: int) -> list[str]:
    """What the page says of so many works, on a phone; fails where axe or a reader of small screens would."""
    browser = Browser("about:blank")
    try:
        browser.driver.set_window_size(390, 844)
        browser.driver.get(address)
        eventually("its works", lambda: browser.js("return document.querySelectorAll('li').length") == count)
        assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        browser.bring_axe()
        assert browser.broken_rules() == []
        return list(browser.js("return [...document.querySelectorAll('li')].map((item) => item.textContent)"))
    finally:
        browser.quit()


def test_a_page_of_a_forbidden_origin_gets_a_clear_error(
    house: RunningSystem, app_site: str, user: str
) -> None:
    browser = Browser("about:blank")
    elsewhere = app_site.replace("127.0.0.1", "localhost")
    try:
        browser.driver.get(f"{elsewhere}/#baseUrl={house.url}&token={house.token(user)}")
        eventually("it says why", lambda: "ALLOWED_ORIGINS" in browser.text("[role=status]"))
        assert elsewhere in browser.text("[role=status]"), "and for which address"
    finally:
        browser.quit()


def test_the_python_example_continues_after_a_break(
    house: RunningSystem, user: str, program: Callable[..., Lines]
) -> None:
    token = house.token(user)
    watch = program(sys.executable, EXAMPLES / "watch.py", house.url, token)
    work = order(house, token)
    watch.until(f"{work} processing", "the work is at work")
    kill_web(house)
    watch.until(f"change {work} completed 100 %", "its end is told")
    seen = [int(match[1]) for line in watch.all() if (match := re.search(r" (\d+) %", line))]
    assert seen == sorted(seen), "progress never falls"


def test_the_curl_example_continues_after_a_break(
    house: RunningSystem, user: str, program: Callable[..., Lines]
) -> None:
    watch = program("sh", EXAMPLES / "watch.sh", house.url, house.token(user), PORTRAIT)
    watch.until('"status":"processing"', "the work is at work")
    kill_web(house)
    watch.until('"status":"completed"', "its end is told")
    ids = [int(line.rpartition("-")[2]) for line in watch.all() if line.startswith("id: ")]
    assert ids == list(range(ids[0], ids[-1] + 1)), "each change once, in order, over the break"
    assert sum(line == "event: init" for line in watch.all()) == 1, "it went on where it was"


def check_whole(events: list[dict[str, Any]], work: str) -> None:
    """From the first list to the work's end: each change once, in order."""
    first, *rest = [event for event in events if event["event"] in ("init", "reset", "change")]
    assert first["event"] == "init"
    assert [event["data"]["id"] for event in rest] == list(
        range(first["data"]["id"] + 1, rest[-1]["data"]["id"] + 1)
    )
    assert all(
        event["event"] == "change" and event["id"].endswith(f"-{event['data']['id']}") for event in rest
    )
    last = rest[-1]["data"]["docChanges"][0]["doc"]
    assert (last["_id"], last["status"]) == (work, "completed")


def has_ended(events: list[dict[str, Any]]) -> bool:
    return any(
        change["doc"]["status"] == "completed"
        for event in events if event["event"] == "change"
        for change in event["data"]["docChanges"]
    )  # fmt: skip


def test_npm_eventsource_and_its_parser_read_the_stream(
    house: RunningSystem, user: str, program: Callable[..., Lines]
) -> None:
    token = house.token(user)
    ticket = ask(house, token, "POST", "/v1/feed-tickets")["ticket"]
    heard = program(NODE or "node", FRONT_ENDS / "real_clients.mjs", npm_packages(), house.url, ticket, token)

    def of(client: str) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, heard.all()) if event["client"] == client]

    eventually(
        "both get the list",
        lambda: all(has_init(of(each)) for each in ("eventsource", "eventsource-parser")),
    )
    work = order(house, token)
    eventually("the parser reads to the end", lambda: has_ended(of("eventsource-parser")))
    check_whole(of("eventsource-parser"), work)
    assert of("eventsource-parser")[0]["event"] == "retry"
    work = order(house, token)
    kill_web(house)
    eventually(
        "eventsource resumes",
        lambda: of("eventsource")[-1]["event"] == "change" and is_end_of(of("eventsource")[-1], work),
    )
    check_whole(of("eventsource"), work)


def has_init(events: list[dict[str, Any]]) -> bool:
    return any(event["event"] == "init" for event in events)


def is_end_of(event: dict[str, Any], work: str) -> bool:
    doc = event["data"]["docChanges"][0]["doc"]
    return bool(doc["_id"] == work and doc["status"] == "completed")


def test_chromiums_event_source_opens_by_ticket_and_resumes_by_itself(
    house: RunningSystem, user: str
) -> None:
    token = house.token(user)
    ticket = ask(house, token, "POST", "/v1/feed-tickets")["ticket"]
    browser = Browser(house.url + "/docs")
    try:
        browser.js(
            """window.heard = [];
            const source = new EventSource(`/v1/works/feed?ticket=${arguments[0]}`);
            for (const event of ["init", "reset", "change", "bye"]) source.addEventListener(event,
                ({ data, lastEventId }) => heard.push({ event, id: lastEventId, data: JSON.parse(data) }));""",
            ticket,
        )
        eventually("it gets the list", lambda: browser.js("return heard.length"))
        work = order(house, token)
        eventually("changes come", lambda: browser.js("return heard.length > 3"))
        kill_web(house)
        eventually("it resumes", lambda: has_ended(browser.js("return heard")))
        check_whole(browser.js("return heard"), work)
    finally:
        browser.quit()
