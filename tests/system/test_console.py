"""The console in a real browser: a photo goes in, progress moves by itself, the print hangs on the line.

Headless Chromium and its driver come from the system's packages; `make test-system` runs this.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.npm_packages import NPM
from tests.support.running_system import PACED, SAMPLES, RunningSystem, running_system
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI"),
        reason="there is no Chromium",
    ),
]


@pytest.fixture(scope="module")
def houses() -> Iterator[Callable[[dict[str, str]], RunningSystem]]:
    """A running house for these settings: the tests share it, each as a user of its own."""
    running: dict[str, RunningSystem] = {}
    ends = contextlib.ExitStack()

    def house_with(settings: dict[str, str]) -> RunningSystem:
        name = repr(settings)
        if name not in running:
            running[name] = ends.enter_context(running_system(lifted=False, **settings))
        return running[name]

    with ends:
        yield house_with


@pytest.fixture
def house(houses: Callable[[dict[str, str]], RunningSystem], request: pytest.FixtureRequest) -> RunningSystem:
    return houses(getattr(request, "param", PACED))


class Page(Browser):
    """The console in a browser of its own."""

    def click(self, selector: str) -> None:
        eventually(
            f"{selector} can be pressed",
            lambda: any(found.is_enabled() for found in self.driver.find_elements("css selector", selector)),
        )
        self.js("arguments[0].scrollIntoView({block: 'center'})", self.find(selector))
        self.find(selector).click()

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
        eventually("the form is made", lambda: self.js(f"return document.getElementById('{slot}') !== null"))
        self.find(f"#{slot}").send_keys(str(SAMPLES / file))

    def order(self) -> None:
        self.choose("person", "portrait.png")
        self.click("#submit")
        eventually("a card", self.cards)

    def sign_in(self, token: str) -> None:
        """Leave a token where the console looks for it, in a page of the same server."""
        if token:
            self.js("sessionStorage.setItem('darkroom.token', arguments[0])", token)

    def is_live(self) -> bool:
        return self.text("#link-text") == "Live"


@pytest.fixture
def open_page(house: RunningSystem, user: str) -> Iterator[Callable[..., Page]]:
    """Opens the console in a new browser, signed in."""
    opened: list[Page] = []

    def open_(path: str = "/", *, user: str = user, **more: str) -> Page:
        page = Page(house.url + "/docs", **more)
        opened.append(page)
        page.sign_in(house.token(user) if user else "")
        page.driver.get(house.url + path)
        return page

    yield open_
    for page in opened:
        page.quit()


def photograph(page: Page, name: str) -> None:
    """Keep a picture of the page where TEST_SCREENSHOTS names a folder."""
    if folder := os.environ.get("TEST_SCREENSHOTS"):
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"o-{abs(hash(request.node.name))}"


def test_a_photo_is_handed_in_progress_moves_by_itself_and_the_picture_appears(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    eventually("the stream is live", page.is_live)
    assert page.js("return document.getElementById('empty').hidden") is False
    assert not page.find("#submit").is_enabled()
    page.mark()
    page.order()
    seen: set[int] = set()

    def finished() -> bool:
        seen.update(progress for _, progress in page.cards())
        return page.statuses() == ["completed"]

    eventually("the print is done", finished)
    assert len(seen) >= 3, f"progress was seen moving: {sorted(seen)}"
    assert page.was_not_reloaded()
    eventually(
        "the picture is loaded",
        lambda: page.js("return document.querySelector('.pictures img')?.naturalWidth"),
    )
    eventually("the credit is gone", lambda: page.text("#credits") == "99 credits")
    assert page.complaints() == [], "neither the policy nor the script has anything to say"


def test_the_web_process_is_killed_in_mid_task_and_the_page_recovers(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.mark()
    page.order()
    eventually("it is at work", lambda: page.cards()[0][1] >= 15)
    before, pid = page.cards()[0][1], house.pids()["web"]
    os.kill(pid, signal.SIGKILL)
    eventually("the page knows", lambda: page.text("#link-text") == "Reconnecting")
    eventually("another web process", lambda: house.pids()["web"] not in (0, pid))
    eventually("the page is live again", page.is_live)
    assert page.cards()[0][1] >= before, "progress never falls"
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert page.was_not_reloaded()
    assert house.one("SELECT count(*), max(attempt) FROM task_queue WHERE user_openid = ?", user) == (1, 1), (
        "the worker noticed nothing"
    )


def test_an_order_that_is_sent_while_the_web_process_dies_is_one_order(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.choose("person", "portrait.png")
    eventually("the stream is live", page.is_live)
    psutil.Process(house.pids()["web"]).suspend()
    page.click("#submit")
    os.kill(house.pids()["web"], signal.SIGKILL)
    eventually("the order arrived all the same", lambda: page.statuses(), seconds=60)
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert house.one("SELECT count(*) FROM task_queue WHERE user_openid = ?", user) == (1,)


def test_cancel_retry_and_delete(house: RunningSystem, user: str, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.mark()
    page.order()
    eventually("it is at work", lambda: page.cards()[0][1] >= 10)
    page.click("[data-act=cancel]")
    eventually("it is cancelled", lambda: page.statuses() == ["cancelled"])
    eventually("the credit is back", lambda: page.text("#credits") == "100 credits")
    page.click("[data-act=retry]")
    eventually("it runs again", lambda: page.statuses() == ["processing"])
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    page.click("[data-act=delete]")
    assert page.text("[data-act=delete]") == "Really delete?", "the first press only asks"
    page.click("[data-act=delete]")
    eventually("the card is gone", lambda: page.cards() == [])
    assert page.js("return document.getElementById('empty').hidden") is False
    assert house.one("SELECT count(*) FROM works WHERE user_openid = ?", user) == (0,)
    assert page.was_not_reloaded()


def test_the_network_goes_and_comes_back(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.mark()
    page.order()
    eventually("it is at work", lambda: page.cards()[0][1] >= 10)
    page.go_offline(True)
    eventually("the page knows", lambda: page.text("#link-text") == "Offline")
    at_most = page.cards()[0][1]
    eventually(
        "the work goes on without it",
        lambda: house.one("SELECT max(progress) FROM works WHERE user_openid = ?", user)[0] > at_most,
    )
    page.go_offline(False)
    eventually("the page is live again", page.is_live)
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert page.was_not_reloaded()


def open_streams(house: RunningSystem) -> int:
    """How many streams the web part has, as its metrics say."""
    with urllib.request.urlopen(house.url + "/metrics", timeout=10) as answer:
        (line,) = [
            each for each in answer.read().decode().splitlines() if each.startswith("darkroom_feed_clients ")
        ]
    return int(float(line.split()[1]))


def test_two_tabs_share_one_stream_and_the_second_takes_over_when_the_first_is_closed(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    eventually("the first is live", page.is_live)
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    second = page.driver.current_window_handle
    page.driver.get(house.url + "/docs")
    page.sign_in(house.token(user))
    page.driver.get(house.url)
    eventually("the second is live", page.is_live)
    assert open_streams(house) == 1, "two tabs, one stream"
    page.driver.switch_to.window(first)
    page.order()
    page.driver.switch_to.window(second)
    eventually("the second shows it", lambda: page.cards() and page.cards()[0][1] >= 20)
    page.driver.switch_to.window(first)
    page.driver.close()
    page.driver.switch_to.window(second)
    eventually("the second goes on", lambda: page.statuses() == ["completed"])
    eventually("the second has the stream", lambda: open_streams(house) == 1)
    assert page.is_live() and house.one(
        "SELECT max(attempt) FROM task_queue WHERE user_openid = ?", user
    ) == (1,)


def test_a_browser_that_prefers_chinese_is_answered_in_it_and_can_switch(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(languages="zh-CN,zh")
    eventually("the stream is live", lambda: page.text("#link-text") == "实时")
    assert page.js("return document.documentElement.lang") == "zh-CN"
    assert page.text("#order-title") == "新任务" and page.text("#submit") == "请先选择照片"
    page.order()
    eventually("it is at work", lambda: page.text(".chip") == "制作中")
    eventually("its stage is said in Chinese", lambda: page.text(".stage") == "冲洗中")
    page.click("#language")
    assert page.text(".chip") in ("Developing", "Done") and page.text("#language") == "中文"
    assert page.js("return document.documentElement.lang") == "en"
    page.driver.refresh()
    eventually("the choice is kept", page.is_live)
    assert page.text("#order-title") == "New order"


@pytest.mark.skipif(not NPM and not os.environ.get("CI"), reason="there is no npm")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_rule_of_axe_is_broken_in_any_state(
    house: RunningSystem, user: str, open_page: Callable[..., Page], theme: str
) -> None:
    """Names, roles, labels, contrast: what a program can find of what shuts people out."""
    page = open_page()
    page.dress(theme)
    page.bring_axe()
    eventually("the stream is live", page.is_live)
    assert page.broken_rules() == [], "empty"
    page.order()
    eventually("it is at work", lambda: page.cards()[0][1] >= 10)
    assert page.broken_rules() == [], "running"
    page.click("[data-act=cancel]")
    eventually("it is cancelled", lambda: page.statuses() == ["cancelled"])
    assert page.broken_rules() == [], "cancelled"
    page.click("#credits")
    assert page.broken_rules() == [], "the ledger"


def test_two_windows_show_the_same(house: RunningSystem, user: str, open_page: Callable[..., Page]) -> None:
    first, second = open_page(), open_page()
    first.order()
    eventually("the other window shows it", lambda: second.cards())
    eventually("both are done", lambda: first.statuses() == second.statuses() == ["completed"])


def test_everything_can_be_done_with_the_keyboard(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
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
    assert page.text("#said"), "a screen reader announces it"


def test_on_the_same_host_a_new_browser_is_pointed_to_the_link_that_lets_it_in(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    page = open_page(user="")
    eventually("it says so", lambda: page.text("#token-title") == "This browser is new here")
    assert "darkroom up" in page.text("#token-hint") and "darkroom link" in page.text("#token-hint")
    assert page.js("return document.getElementById('token-dialog').open")
    if NPM:
        page.bring_axe()
        assert page.broken_rules() == []
    photograph(page, "console-new-browser-desktop-light")

    assert house.link.startswith(house.url + "/start?key=")
    page.driver.get(house.link)
    eventually("the stream is live", page.is_live)
    assert page.js("return location.href") == house.url + "/", "the secret stands in no address"
    assert not page.js("return document.getElementById('token-dialog').open")
    assert page.js("return document.cookie") == "", "no script reads it"
    page.driver.get(house.url + "/ops")
    eventually("the operators' page is live", lambda: page.text("#link-text") == "Live")

    (cookie,) = page.driver.get_cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    page.driver.delete_all_cookies()
    page.driver.get(house.url + "/ops")
    eventually("it says so here too", lambda: page.text("#token-title") == "This browser is new here")


@pytest.mark.parametrize("house", [PACED | {"DEMO_USER": "false"}], indirect=True)
def test_where_a_token_is_needed_the_page_asks_for_one(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    token = house.token("o-7")
    page = open_page(user="")
    eventually("it asks", lambda: page.js("return document.getElementById('token-dialog').open"))
    page.find("#token").send_keys("nonsense")
    page.click("#token-form button")
    eventually("it says what is wrong", lambda: "token" in page.text("#token-problem"))
    page.find("#token").send_keys(token)
    page.click("#token-form button")
    eventually("the stream is live", page.is_live)
    assert page.text("#user") == "o-7"
    page.order()
    eventually("the print is done", lambda: page.statuses() == ["completed"])
    assert page.js("return Object.keys(localStorage).length + document.cookie.length") == 0
    assert page.js("return location.href") == house.url + "/", "the token stands in no address"
    page.driver.refresh()
    eventually("still let in", lambda: page.statuses() == ["completed"])


@pytest.mark.parametrize("house", [{}], indirect=True)
def test_a_real_fitting_and_a_photo_without_a_person(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
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


def test_the_description_is_shown_as_a_page(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page("/docs")
    eventually(
        "it is written", lambda: page.js("return document.querySelectorAll('section.call').length") >= 19
    )
    text = page.text("#text")
    for part in ("/v1/tasks/{task_id}/cancel", "Idempotency-Key", "FittingParams", "event: change"):
        assert part in text
    broken = """return [...document.querySelectorAll('a[href^="#"]')]
        .filter(link => !document.getElementById(link.hash.slice(1))).length"""
    assert page.js(broken) == 0, "every link leads somewhere"
    assert page.complaints() == []


DECLARED = PACED | {
    "TASKS__poster": json.dumps(
        {
            "title": {"en": "Poster", "zh": "海报"},
            "provider": "paced",
            "inputs": {"images": [0, 2]},
            "count": [1, 3],
            "parameters": {
                "required": ["headline"],
                "properties": {
                    "headline": {"type": "string", "title": "Headline", "maxLength": 40, "pattern": "^[A-Z]"},
                    "quality": {"enum": ["sd", "hd"], "default": "sd", "title": "Quality"},
                    "steps": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 50,
                        "default": 20,
                        "title": "Steps",
                    },
                    "width": {"type": "integer", "title": "Width"},
                    "tiled": {"type": "boolean", "default": False, "title": "Tiled"},
                    "extra": {"type": "object", "title": "Extra"},
                },
                "additionalProperties": False,
            },
        }
    )
}


@pytest.mark.parametrize("house", [DECLARED], indirect=True)
def test_a_declared_type_has_a_form_of_its_own(
    house: RunningSystem, user: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    eventually(
        "the types are there", lambda: page.js("return document.querySelector('[value=poster]') !== null")
    )
    page.js("document.querySelector('[value=poster]').click()")
    assert page.js("return document.querySelector('[value=poster] + span').textContent") == "Poster"
    field = "document.querySelector('[data-parameter={}]')"
    kinds = {
        name: page.js(f"return {field.format(name)}.type")
        for name in ("headline", "quality", "steps", "width", "tiled", "extra")
    }
    assert kinds == {
        "headline": "text", "quality": "select-one", "steps": "range", "width": "number", "tiled": "checkbox",
        "extra": "textarea",
    }  # fmt: skip
    page.find("[data-parameter=headline]").send_keys("a fair in May")
    page.js(f"{field.format('quality')}.selectedIndex = 1")
    page.js(f"{field.format('tiled')}.click()")
    page.find("#prompt").send_keys("balloons")
    photograph(page, "declared-type")
    page.click("#submit")
    eventually(
        "the mistake stands beside its field",
        lambda: (
            "does not match" in page.js(f"return {field.format('headline')}.closest('.field').textContent")
        ),
    )
    assert house.one("SELECT count(*) FROM task_queue WHERE user_openid = ?", user) == (0,)
    page.js(f"{field.format('headline')}.value = ''")
    page.find("[data-parameter=headline]").send_keys("A fair in May")
    page.click("#submit")
    eventually("a card", page.cards)
    [params] = house.one("SELECT params FROM task_queue WHERE user_openid = ?", user)
    assert json.loads(params) == {
        "count": 1,
        "prompt": "balloons",
        "parameters": {"headline": "A fair in May", "quality": "hd", "tiled": True},
    }, "a field left at its default is not sent"
    page.js("document.querySelector('[value=photography]').click()")
    eventually("the other form", lambda: page.js("return document.getElementById('person') !== null"))
    assert page.js("return document.getElementById('scenes').hidden") is False
