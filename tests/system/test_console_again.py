"""What the console offers of works that have ended: again, to others, together, compared; and what it says of waiting.

One house with the paced provider and one with the studio; each test is a user of its own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.npm_packages import NPM
from tests.support.running_system import DARKROOM, PACED, SAMPLES, RunningSystem, running_system
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI"),
        reason="there is no Chromium",
    ),
]

QUICK = PACED | {
    "PROVIDERS__paced__OPTIONS__step_seconds": "0.02",
    "TASKS__fitting__PROVIDER": "paced",
    "TASKS__poster": json.dumps(
        {
            "title": {"en": "Poster", "zh": "海报"},
            "provider": "paced",
            "inputs": {"images": [0, 2]},
            "count": [1, 3],
            "parameters": {
                "properties": {
                    "headline": {"type": "string", "title": "Headline"},
                    "quality": {"enum": ["sd", "hd"], "default": "sd"},
                    "steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 20},
                    "tiled": {"type": "boolean", "default": False},
                    "extra": {"type": "object"},
                },
            },
        }
    ),
    "TASKS__broken": json.dumps({"provider": "refusing", "inputs": {"images": [0, 1]}}),
    "PROVIDERS__refusing__KIND": "python",
    "PROVIDERS__refusing__OPTIONS__class": ("tests.support.providers.refusing_provider:RefusingProvider"),
    "PROVIDERS__refusing__OPTIONS__says": "rejected",
}


@pytest.fixture(scope="module")
def house() -> Iterator[RunningSystem]:
    with running_system(lifted=False, **QUICK) as house:
        yield house


class User:
    """One user of the house, by HTTP."""

    def __init__(self, house: RunningSystem, name: str) -> None:
        self.house, self.name, self.token = house, name, house.token(name)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        told = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.house.url + path, data, told, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def photo(self) -> str:
        body = (SAMPLES / "portrait.png").read_bytes()
        return str(self.ask("POST", "/v1/images", body, **{"Content-Type": "image/png"})["id"])

    def ordered(self, type_: str, **params: Any) -> str:
        """A finished task's id."""
        task_id = str(self.ask("POST", "/v1/tasks", {"type": type_, "params": params})["task_id"])
        final = ("completed", "failed", "cancelled")
        eventually(
            "it has ended", lambda: self.ask("GET", f"/v1/tasks/{task_id}")["status"] in final, seconds=60
        )
        return task_id

    def params_of_newest(self) -> Any:
        sql = "SELECT params FROM task_queue WHERE user_openid = ? ORDER BY created_at DESC, id DESC LIMIT 1"
        return json.loads(self.house.one(sql, self.name)[0])


@pytest.fixture
def user(house: RunningSystem, request: pytest.FixtureRequest) -> User:
    return User(house, f"o-{abs(hash(request.node.name))}")


class Page(Browser):
    """The console, by what a reader sees of it."""

    def click(self, selector: str) -> None:
        eventually(f"{selector} can be pressed", lambda: self.is_there(selector))
        self.js("document.querySelector(arguments[0]).click()", selector)

    def is_there(self, selector: str) -> bool:
        script = """const e = document.querySelector(arguments[0]);
            return Boolean(e && e.checkVisibility() && !e.disabled)"""
        return bool(self.js(script, selector))

    def cards(self) -> list[str]:
        """The type and status of each card."""
        script = """return [...document.querySelectorAll('.card')]
            .map(card => `${card.querySelector('.name').textContent} ${card.dataset.status}`)"""
        return list(self.js(script))

    def set_value(self, selector: str, value: str) -> None:
        self.js(
            """const e = document.querySelector(arguments[0]); e.value = arguments[1];
            e.dispatchEvent(new Event('input', { bubbles: true }));
            e.dispatchEvent(new Event('change', { bubbles: true }))""",
            selector,
            value,
        )

    def is_live(self) -> bool:
        return self.js("return document.getElementById('link').dataset.state") == "live"


@pytest.fixture
def open_page(house: RunningSystem, user: User) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def open_(**more: Any) -> Page:
        page = Page(house.url + "/docs", **more)
        opened.append(page)
        page.js("sessionStorage.setItem('darkroom.token', arguments[0])", user.token)
        page.driver.get(house.url + "/")
        eventually("the stream is live", page.is_live)
        eventually(
            "the types are known", lambda: page.js("return document.querySelector('#types input') !== null")
        )
        return page

    yield open_
    for page in opened:
        page.quit()


def test_a_cards_order_fills_the_form_is_changed_and_handed_in(
    user: User, open_page: Callable[..., Page]
) -> None:
    parameters = {
        "headline": "A fair",
        "quality": "hd",
        "steps": 31,
        "tiled": True,
        "extra": {"a": 1},
        "other": [1],
    }
    photo = user.photo()
    user.ordered("poster", images=[photo], prompt="balloons", count=2, parameters=parameters)
    page = open_page()
    eventually("the card", lambda: page.cards() == ["Poster completed"])
    page.click(".card [data-act=again]")
    eventually("the form holds it", lambda: page.is_there("#submit"))
    assert page.js("return document.querySelector('input[name=type]:checked').value") == "poster"
    assert page.js("return document.querySelector('.preview').src").startswith(
        user.house.url + "/files/uploads/"
    )
    page.set_value("[data-parameter=headline]", "A fair in May")
    page.click("#submit")
    eventually("another card", lambda: page.cards() == ["Poster completed"] * 2)
    assert user.params_of_newest() == {
        "images": [photo], "prompt": "balloons", "count": 2,
        "parameters": {**parameters, "headline": "A fair in May"},
    }, "the rest is as it was, and nothing was uploaded again"  # fmt: skip
    assert user.house.one("SELECT count(*) FROM image WHERE user_openid = ?", user.name) == (1,)
    assert page.complaints() == []


def test_an_upload_that_is_gone_is_asked_for_again(user: User, open_page: Callable[..., Page]) -> None:
    user.ordered("photography", images=[user.photo()], sceneId="night")
    page = open_page()
    eventually("the card", page.cards)
    with sqlite3.connect(user.house.data_dir / "darkroom.db", timeout=15) as database:
        database.execute("UPDATE image SET expired_at = created_at WHERE user_openid = ?", (user.name,))
    page.click(".card [data-act=again]")
    eventually("it says so", lambda: "no longer kept" in page.text("#problem"))
    assert page.text("#submit") == "Choose a photo first"
    assert page.js("return document.querySelector('input[name=scene]:checked').value") == "night"


def test_a_failed_card_says_which_credits_came_back_and_an_old_one_too(
    user: User, open_page: Callable[..., Page]
) -> None:
    first = user.ordered("broken", count=3)
    for n in range(100):  # newer entries than a statement holds
        grant = {"amount": 1, "reference": f"{user.name}-{n}"}
        service = {"Authorization": f"Bearer {_service(user.house)}"}
        user.ask("POST", f"/v1/credits/{user.name}/grants", grant, **service)
    user.ordered("broken")
    page = open_page()
    lines = "return [...document.querySelectorAll('.card .back')].map(line => line.hidden ? '' : line.textContent)"
    eventually("both say it", lambda: page.js(lines) == ["1 credit came back", "3 credits came back"])
    page.click("#language")
    assert page.js(lines) == ["已退还 1 点", "已退还 3 点"]
    sums = "SELECT sum(amount) FROM credit_entry WHERE task_id = ? AND kind = 'refund'"
    assert user.house.one(sums, first) == (3,), "as the ledger says"


def _service(house: RunningSystem) -> str:
    command = [str(DARKROOM), "token", "shop", "--role", "service"]
    return subprocess.run(
        command, env=house.environ, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_works_are_found_by_kind_and_day_and_saved_together(
    user: User, open_page: Callable[..., Page]
) -> None:
    photo = user.photo()
    for type_, images in (("photography", [photo]), ("fitting", [photo, photo]), ("photography", [photo])):
        user.ordered(type_, images=images)
    page = open_page()
    eventually("the cards", lambda: len(page.cards()) == 3)
    page.click("#search-open")
    page.set_value("#search-type", "fitting")
    eventually("one is found", lambda: page.cards() == ["Fitting completed"])
    assert page.text("#summary") == "1 found" and page.text("#save-all") == "Download these"
    user.ordered("fitting", images=[photo, photo])
    eventually("a new one that matches comes by itself", lambda: page.cards() == ["Fitting completed"] * 2)
    page.set_value("#search-to", "2020-01-01")
    eventually("nothing is found", lambda: page.is_there("#found-nothing") and page.cards() == [])
    page.set_value("#search-to", "")
    page.set_value("#search-from", "2020-01-01")
    eventually("both are found again", lambda: len(page.cards()) == 2)

    folder = tempfile.mkdtemp(prefix="dk-download-")
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": folder})
    page.click("#save-all")
    saved = Path(folder, "darkroom.zip")
    eventually("the file is there", lambda: saved.exists() and zipfile.is_zipfile(saved))
    with zipfile.ZipFile(io.BytesIO(saved.read_bytes())) as file:
        assert len(file.namelist()) == 2 and all("-fitting-" in name for name in file.namelist())
    shutil.rmtree(folder)
    page.click("#search-clear")
    eventually("all are back", lambda: len(page.cards()) == 4)
    assert page.complaints() == []


def test_a_link_for_others_is_made_on_the_card_and_opens_without_a_token(
    user: User, open_page: Callable[..., Page]
) -> None:
    user.ordered("photography", images=[user.photo()])
    page = open_page()
    eventually("the card", page.cards)
    page.click(".card [data-act=share]")
    page.js("document.querySelector('#share-times input[value=\"86400\"]').click()")
    page.click("#share-form .primary")
    eventually("the link", lambda: page.is_there("#share-link"))
    link = page.js("return document.getElementById('share-link').value")
    assert page.js("return document.activeElement.id") == "share-link"
    guest = Browser(link)
    try:
        loaded = "return document.querySelector('figure img')?.naturalWidth > 0"
        eventually("the picture is shown", lambda: guest.js(loaded))
        assert guest.js("return document.querySelectorAll('script, form, nav').length") == 0
        if NPM:
            for theme in ("light", "dark"):
                guest.dress(theme)
                guest.bring_axe()
                assert guest.broken_rules() == [], theme
        assert guest.complaints() == []
        page.js("document.querySelector('#share-dialog [data-close]').click()")
        page.click(".card [data-act=delete]")
        page.click(".card [data-act=delete]")
        eventually("the card is gone", lambda: page.cards() == [])
        guest.driver.get(link)
        assert guest.text("h1") == "This work was deleted"
    finally:
        guest.quit()


def test_a_picture_is_compared_with_the_photo_before_by_the_keyboard(
    user: User, open_page: Callable[..., Page]
) -> None:
    from selenium.webdriver.common.keys import Keys

    user.ordered("photography", images=[user.photo()])
    page = open_page()
    eventually("the card", page.cards)
    page.click(".card [data-act=open]")
    eventually("there is a photo before", lambda: page.is_there("#viewer-compare"))
    page.js("document.getElementById('viewer-compare').focus()")
    page.press(Keys.ENTER)
    assert page.js("return document.activeElement.id") == "compare", "the slider has the focus"
    eventually(
        "the photo is there", lambda: page.js("return document.querySelector('.before').naturalWidth > 0")
    )
    clip = "return getComputedStyle(document.querySelector('.before')).clipPath"
    before = page.js(clip)
    page.press(Keys.ARROW_LEFT)
    assert page.js("return document.getElementById('compare').value") == "49" and page.js(clip) != before
    page.press(Keys.HOME)
    assert page.js("return document.getElementById('compare').value") == "0"
    assert page.complaints() == []


def test_an_order_of_an_offline_browser_says_why_it_waits_can_be_stopped_and_goes_out_once(
    user: User, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.find("#person").send_keys(str(SAMPLES / "portrait.png"))
    page.go_offline(True)
    eventually("it is said before", lambda: "waits on this page" in page.text("#waits"))
    page.click("#submit")
    eventually("it is said why", lambda: "your order waits here" in page.text("#waits"))
    assert page.text("#submit") == "Stop waiting"
    page.click("#submit")
    eventually("it is stopped", lambda: page.text("#problem") == "The order was not sent.")
    page.click("#submit")
    eventually("it waits again", lambda: page.text("#submit") == "Stop waiting")
    page.go_offline(False)
    eventually("it goes out", lambda: page.cards() == ["Photography completed"], seconds=60)
    assert user.house.one("SELECT count(*) FROM task_queue WHERE user_openid = ?", user.name) == (1,)
    assert page.js("return document.getElementById('waits').hidden") is True


def test_who_asked_for_it_is_told_of_a_finished_print_while_the_page_is_hidden(
    user: User, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    origin = {"origin": user.house.url, "permissions": ["notifications"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", origin)
    # What the browser has accepted.  Its list of what is shown may forget one that is asked for just then.
    page.js("""window.told = [];
        const show = ServiceWorkerRegistration.prototype.showNotification;
        ServiceWorkerRegistration.prototype.showNotification = function (title, more) {
            return show.call(this, title, more).then(() => { window.told.push(title); });
        };""")
    told = "return window.told"
    photo = user.photo()
    user.ordered("photography", images=[photo])
    eventually("the print is there", lambda: page.cards() == ["Photography completed"])
    assert page.js(told) == [], "nobody has asked"
    page.click("#notify")
    pressed = "return document.getElementById('notify').getAttribute('aria-pressed')"
    eventually("the bell is on", lambda: page.js(pressed) == "true")
    user.ordered("photography", images=[photo])
    eventually("the next is there", lambda: len(page.cards()) == 2)
    assert page.js(told) == [], "the page is looked at"
    page.js("Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })")
    user.ordered("fitting", images=[photo, photo])
    eventually("it is told", lambda: page.js(told) == ["Fitting is done"])
    page.click("#notify")
    eventually("the bell is off", lambda: page.js(pressed) == "false")
    assert page.complaints() == []


@pytest.mark.skipif(not NPM and not os.environ.get("CI"), reason="there is no npm")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_rule_of_axe_is_broken_in_what_is_new(
    user: User, open_page: Callable[..., Page], theme: str
) -> None:
    photo = user.photo()
    user.ordered("photography", images=[photo])
    user.ordered("broken")
    page = open_page()
    page.dress(theme)
    page.bring_axe()
    eventually("both cards, and what came back", lambda: page.is_there(".card .back"))
    assert page.broken_rules() == [], "a failed card and a finished one"
    page.click("#search-open")
    assert page.broken_rules() == [], "the search"
    page.set_value("#search-to", "2020-01-01")
    eventually("nothing is found", lambda: page.is_there("#found-nothing"))
    assert page.broken_rules() == [], "nothing found"
    page.click("#search-clear")
    eventually("the cards are back", lambda: len(page.cards()) == 2)
    page.click(".card[data-status=completed] [data-act=share]")
    page.click("#share-form .primary")
    eventually("the link", lambda: page.is_there("#share-link"))
    assert page.broken_rules() == [], "the link"
    page.js("document.querySelector('#share-dialog [data-close]').click()")
    page.click(".card[data-status=completed] [data-act=open]")
    page.click("#viewer-compare")
    assert page.broken_rules() == [], "the slider"
    page.js("document.querySelector('#viewer [data-close]').click()")
    page.click(".card[data-status=completed] [data-act=again]")
    eventually("the form holds it", lambda: page.is_there("#submit"))
    page.go_offline(True)
    eventually("it says why an order waits", lambda: page.is_there("#waits"))
    assert page.broken_rules() == [], "offline"


def test_the_bell_stands_in_the_middle_of_its_button(open_page: Callable[..., Page]) -> None:
    page = open_page()
    eventually("the bell is offered", lambda: page.js("return !document.getElementById('notify').hidden"))
    aside = """
        const [button, drawing] = ["#notify", "#notify svg"].map(
          (each) => document.querySelector(each).getBoundingClientRect());
        return [button.x + button.width / 2 - drawing.x - drawing.width / 2, drawing.width];"""
    off, width = page.js(aside)
    assert abs(off) <= 1 and width >= 20, (off, width)
