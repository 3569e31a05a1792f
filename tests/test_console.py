"""The console in a real browser: a photo goes in, progress moves by itself, the print hangs on the line.

Headless Chromium and its driver come from the system's packages; `make test-system` runs this.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "examples" / "samples"
DARKROOM = Path(sys.executable).with_name("darkroom")
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI"),
        reason="there is no Chromium",
    ),
]


def eventually(claim: str, condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {claim}"
        time.sleep(0.03)
    return found


class House:
    """A running `darkroom up`; its tasks of type photography take as long as `pace` says."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        environ |= {
            "DARKROOM_CONFIG": "",
            "DARKROOM_DATA_DIR": str(folder),
            "DARKROOM_PORT": "0",
            "DARKROOM_WORKER_PROCESSES": "1",
            "DARKROOM_WORKER_THREADS": "4",
            "PYTHONPATH": str(ROOT),
            **settings,
        }
        with (folder / "up.err").open("w") as errors:
            self.process = subprocess.Popen(
                [str(DARKROOM), "up"], env=environ, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline().split()
        assert first and first[0] == "ready", (folder / "up.err").read_text()
        self.address = first[1]

    def web_pid(self) -> int:
        processes = json.loads((self.folder / "processes.json").read_text())["processes"]
        return int(next(process["pid"] for process in processes if process["name"] == "web") or 0)

    def one(self, sql: str) -> Any:
        with sqlite3.connect(self.folder / "darkroom.db", timeout=15) as connection:
            return connection.execute(sql).fetchone()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


PACED = {  # a provider that moves in steps, so that there is time to look and to interfere
    "DARKROOM_TASKS__photography__PROVIDER": "paced",
    "DARKROOM_PROVIDERS__paced__KIND": "python",
    "DARKROOM_PROVIDERS__paced__OPTIONS__class": "tests.paced_provider:PacedProvider",
    "DARKROOM_PROVIDERS__paced__OPTIONS__steps": "20",
    "DARKROOM_PROVIDERS__paced__OPTIONS__step_seconds": "0.25",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="dk-console-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def house(folder: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    running = House(folder, **getattr(request, "param", PACED))
    try:
        yield running
    finally:
        running.end()


class Page:
    """The console in a browser of its own."""

    def __init__(self, address: str, profile: str) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in [*FLAGS.split(), f"--user-data-dir={profile}", "--window-size=1280,900"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        self.driver.get(address)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        eventually(f"{selector} can be pressed", lambda: self.find(selector).is_enabled())
        self.js("arguments[0].scrollIntoView({block: 'center'})", self.find(selector))
        self.find(selector).click()

    def press(self, key: str) -> None:
        """A key, to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def cards(self) -> list[tuple[str, int]]:
        """(status, progress) of each card."""
        script = """return [...document.querySelectorAll('.card')]
            .map(card => [card.dataset.status, card.querySelector('progress').value])"""
        return [(status, int(progress)) for status, progress in self.js(script)]

    def statuses(self) -> list[str]:
        return [status for status, _ in self.cards()]

    def mark(self) -> None:
        """Leave something that a reload would take away."""
        self.js("window.notReloaded = true")

    def was_not_reloaded(self) -> bool:
        return bool(self.js("return window.notReloaded === true"))

    def choose(self, slot: str, file: str) -> None:
        self.find(f"#{slot}").send_keys(str(SAMPLES / file))

    def order(self) -> None:
        self.choose("person", "portrait.png")
        self.click("#submit")
        eventually("a card", self.cards)

    def complaints(self) -> list[str]:
        return [each["message"] for each in self.driver.get_log("browser")]


@pytest.fixture
def open_page(house: House) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []
    profiles: list[str] = []

    def open_(path: str = "/") -> Page:
        profiles.append(tempfile.mkdtemp(prefix="dk-chromium-"))
        opened.append(Page(house.address + path, profiles[-1]))
        return opened[-1]

    yield open_
    for page in opened:
        page.driver.quit()
    for profile in profiles:
        shutil.rmtree(profile, ignore_errors=True)


def test_a_photo_is_handed_in_progress_moves_by_itself_and_the_picture_appears(
    house: House, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    eventually("the stream is live", lambda: page.text("#link-text") == "Live")
    assert page.js("return document.getElementById('empty').hidden") is False
    assert not page.find("#submit").is_enabled()
    page.mark()
    page.order()
    seen: set[int] = set()

    def finished() -> bool:
        seen.update(progress for _, progress in page.cards())
        return page.statuses() == ["completed"]

    eventually("the print is done", finished)
    assert len(seen) >= 5, f"progress was seen moving: {sorted(seen)}"
    assert page.was_not_reloaded()
    eventually(
        "the picture is loaded",
        lambda: page.js("return document.querySelector('.pictures img')?.naturalWidth"),
    )
    eventually("the credit is gone", lambda: page.text("#balance") == "99")
    assert page.complaints() == [], "neither the policy nor the script has anything to say"


def test_the_web_process_is_killed_in_mid_task_and_the_page_recovers(
    house: House, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.mark()
    page.order()
    eventually("it is at work", lambda: page.cards()[0][1] >= 15)
    before, pid = page.cards()[0][1], house.web_pid()
    os.kill(pid, signal.SIGKILL)
    eventually("the page knows", lambda: page.text("#link-text") == "Reconnecting", seconds=5)
    eventually("another web process", lambda: house.web_pid() not in (0, pid))
    eventually("the page is live again", lambda: page.text("#link-text") == "Live")
    assert page.cards()[0][1] >= before, "progress never falls"
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert page.was_not_reloaded()
    assert house.one("SELECT count(*), max(attempt) FROM task_queue") == (1, 1), "the worker noticed nothing"


def test_an_order_that_is_sent_while_the_web_process_dies_is_one_order(
    house: House, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.choose("person", "portrait.png")
    eventually("the stream is live", lambda: page.text("#link-text") == "Live")
    psutil.Process(house.web_pid()).suspend()
    page.click("#submit")
    os.kill(house.web_pid(), signal.SIGKILL)
    eventually("the order arrived all the same", lambda: page.statuses(), seconds=60)
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert house.one("SELECT count(*) FROM task_queue") == (1,)


def test_cancel_retry_and_delete(house: House, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.mark()
    page.order()
    eventually("it is at work", lambda: page.cards()[0][1] >= 10)
    page.click("[data-act=cancel]")
    eventually("it is cancelled", lambda: page.statuses() == ["cancelled"])
    eventually("the credit is back", lambda: page.text("#balance") == "100")
    page.click("[data-act=retry]")
    eventually("it runs again", lambda: page.statuses() == ["processing"])
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    page.click("[data-act=delete]")
    assert page.text("[data-act=delete]") == "Really delete?", "the first press only asks"
    page.click("[data-act=delete]")
    eventually("the card is gone", lambda: page.cards() == [])
    assert page.js("return document.getElementById('empty').hidden") is False
    assert house.one("SELECT count(*) FROM works") == (0,)
    assert page.was_not_reloaded()


def test_two_windows_show_the_same(house: House, open_page: Callable[..., Page]) -> None:
    first, second = open_page(), open_page()
    first.order()
    eventually("the other window shows it", lambda: second.cards())
    eventually("both are done", lambda: first.statuses() == second.statuses() == ["completed"])


def test_everything_can_be_done_with_the_keyboard(house: House, open_page: Callable[..., Page]) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page()
    page.choose("person", "portrait.png")  # a file dialog is the browser's own
    page.js("document.body.focus()")

    def focused() -> str:
        script = "const e = document.activeElement; return e.id || e.dataset.act || e.name || e.className"
        return str(page.js(script))

    def press_until(wanted: str, key: str = Keys.TAB) -> None:
        seen = []
        for _ in range(40):
            if focused() == wanted:
                return
            seen.append(focused())
            page.press(key)
        raise AssertionError(f"{wanted} is not reached: {seen}")

    press_until("type")
    page.press(Keys.ARROW_RIGHT)
    assert page.js("return document.querySelector('input[name=type]:checked').value") == "fitting"
    page.press(Keys.ARROW_LEFT)
    press_until("scene")
    page.press(Keys.ARROW_RIGHT)
    assert page.js("return document.querySelector('input[name=scene]:checked').value") == "sunset"
    press_until("submit")
    page.press(Keys.ENTER)
    eventually("a card", page.cards)
    press_until("cancel")
    page.press(Keys.ENTER)
    eventually("it is cancelled", lambda: page.statuses() == ["cancelled"])
    assert focused() == "retry", "focus moves on to what can be done now"
    assert page.text("#said"), "a screen reader is told"


@pytest.mark.parametrize("house", [PACED | {"DARKROOM_DEMO_USER": "false"}], indirect=True)
def test_where_a_token_is_needed_the_page_asks_for_one(house: House, open_page: Callable[..., Page]) -> None:
    command = [str(DARKROOM), "token", "o-7"]
    environ = {**os.environ, "DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(house.folder)}
    token = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()
    page = open_page()
    eventually("it asks", lambda: page.js("return document.getElementById('token-dialog').open"))
    page.find("#token").send_keys("nonsense")
    page.click("#token-form button")
    eventually("it says what is wrong", lambda: "token" in page.text("#token-problem"))
    page.find("#token").send_keys(token)
    page.click("#token-form button")
    eventually("the stream is live", lambda: page.text("#link-text") == "Live")
    assert page.text("#user") == "o-7"
    page.order()
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert page.js("return Object.keys(localStorage).length + document.cookie.length") == 0
    assert page.js("return location.href") == house.address + "/", "the token stands in no address"
    page.driver.refresh()
    eventually("still let in", lambda: page.statuses() == ["completed"])


@pytest.mark.parametrize("house", [{}], indirect=True)
def test_a_real_fitting_and_a_photo_without_a_person(house: House, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.click("input[value=fitting]")
    page.choose("person", "portrait.png")
    assert page.text("#submit") == "Choose a garment first"
    page.choose("garment", "garment.png")
    page.click("#submit")
    eventually("the garment is on", lambda: page.statuses() == ["completed"], seconds=90)
    page.click("input[value=photography]")
    page.choose("person", "garment.png")
    page.click("#submit")
    eventually("it failed", lambda: page.statuses() == ["failed", "completed"], seconds=90)
    assert "person" in page.text(".card[data-status=failed] .line").lower()


def test_the_description_is_shown_as_a_page(house: House, open_page: Callable[..., Page]) -> None:
    page = open_page("/docs")
    eventually(
        "it is written", lambda: page.js("return document.querySelectorAll('section.call').length") >= 19
    )
    text = page.text("#text")
    for part in ("/v1/tasks/{task_id}/cancel", "Idempotency-Key", "PhotographyParams", "event: change"):
        assert part in text
    broken = """return [...document.querySelectorAll('a[href^="#"]')]
        .filter(link => !document.getElementById(link.hash.slice(1))).length"""
    assert page.js(broken) == 0, "every link leads somewhere"
    assert page.complaints() == []
