"""The operators' page in a real browser: troubles are shown, and each action is confirmed, done and recorded."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.npm_packages import NPM
from tests.support.running_system import PACED, RunningSystem, running_system
from tests.support.servers.webhook_receiver import WebhookReceiver
from tests.support.waiting import eventually
from web.openapi.ops_schemas import OpsOverview

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI"),
        reason="there is no Chromium",
    ),
]

LONG = PACED | {
    "PROVIDERS__paced__OPTIONS__steps": "2000",
    "WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true",
}


class Page(Browser):
    """The page in a browser of its own."""

    def click(self, selector: str) -> None:
        eventually(
            f"{selector} is there", lambda: self.js("return document.querySelector(arguments[0])", selector)
        )
        self.js("document.querySelector(arguments[0]).click()", selector)

    def confirm(self, said: str, *, can_be_undone: bool = True) -> None:
        """Confirm the dialog's action; the page says that it is done."""
        eventually("the question", lambda: self.js("return document.getElementById('sure-dialog').open"))
        assert ("can not be undone" not in self.text("#sure-text")) is can_be_undone
        self.click("#sure-yes")
        eventually(f"done: {said}", lambda: said in self.text("#said"))

    def codes(self) -> list[str]:
        return list(
            self.js(
                "return [...document.querySelectorAll('.trouble')].map(each => each.dataset.code ?? 'well')"
            )
        )

    def events(self) -> list[str]:
        return list(
            self.js("return [...document.querySelectorAll('[data-event]')].map(each => each.dataset.event)")
        )

    def fits_a_phone(self) -> bool:
        """Whether nothing is wider than 360 pixels, at that width."""
        metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        fits = "[document.documentElement, ...document.querySelectorAll('dialog[open]')]"
        is_narrow = self.js(
            f"return {fits}.every(each => each.scrollWidth <= Math.min(360, each.clientWidth))"
        )
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return bool(is_narrow)

    def figure(self, name: str) -> str:
        return self.text(f".tile[data-name='{name}'] b")

    def find_task(self, wanted: str) -> None:
        self.js("document.getElementById('wanted').value = arguments[0]", wanted)
        self.click("#search button")


@pytest.fixture(scope="module")
def house() -> Iterator[RunningSystem]:
    with running_system(lifted=False, **LONG) as running:
        yield running


@pytest.fixture
def open_page(house: RunningSystem) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def open_(token: str = "", languages: str = "en-US,en") -> Page:
        page = Page(house.link, languages=languages)
        opened.append(page)
        if token:
            page.js("sessionStorage.setItem('darkroom.token', arguments[0])", token)
        page.driver.get(house.url + "/ops")
        return page

    yield open_
    for page in opened:
        page.quit()


@pytest.fixture
def running_task(house: RunningSystem) -> Callable[[str], str]:
    """In a worker's hands for minutes; its id."""

    def make(user: str) -> str:
        task_id = house.order("photography", user=user)
        eventually(
            "it runs", lambda: house.one("SELECT 1 FROM task_queue WHERE id = ? AND progress > 5", task_id)
        )
        return str(task_id)

    return make


def test_a_healthy_system_says_so_and_a_pause_is_shown_until_it_is_undone(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.click("[data-act='sweep']")
    page.confirm("Sweep now", can_be_undone=False)
    eventually("all is well", lambda: page.codes() == ["well"])
    assert page.figure("workers") == "1" and page.figure("slots") == "0 / 4"
    with urllib.request.urlopen(house.url + "/v1/ops/overview", timeout=30) as answer:
        assert OpsOverview.model_validate_json(answer.read(), strict=True).processes
    page.click("[data-act='pause'][data-target='photography']")
    page.js("document.getElementById('sure-reason').value = 'the model is replaced'")
    page.confirm("Pause photography")
    eventually("the pause is seen", lambda: page.codes() == ["type_paused"])
    assert "the model is replaced" in page.text("#audit")
    house.order("photography", user="o-waits")
    eventually("it waits", lambda: page.figure("waiting") == "1")
    eventually("it is next in line", lambda: "o-waits" in page.text("#line"))
    page.click("#audit [data-act='undo']")
    page.confirm("Resume photography")
    eventually("it runs", lambda: page.figure("running") == "1")
    page.find_task("o-waits")
    eventually("its history", lambda: page.events() == ["submitted", "debited", "admitted", "claimed"])
    page.click("#task-body [data-act='cancel']")
    page.confirm("Cancel")
    eventually("its refund", lambda: page.events()[-2:] == ["cancelled", "refunded"])
    assert [message for message in page.complaints() if "SEVERE" in message] == []


def test_a_released_task_continues_in_another_claim(
    house: RunningSystem, open_page: Callable[..., Page], running_task: Callable[[str], str]
) -> None:
    task_id = running_task("o-released")
    page = open_page()
    page.find_task(task_id)
    page.click("#task-body [data-act='release']")
    page.confirm("Release", can_be_undone=False)
    eventually("a new claim", lambda: page.events()[-2:] == ["released", "claimed"])
    eventually("the sentence on top", lambda: "works on it with paced" in page.text("#why"))
    page.click("#task-body [data-act='cancel']")
    page.confirm("Cancel")


def test_a_drained_worker_is_replaced(house: RunningSystem, open_page: Callable[..., Page]) -> None:
    page = open_page()
    (before,) = house.one("SELECT id FROM worker WHERE state = 'live'")
    page.click("[data-act='drain']")
    page.confirm("Drain", can_be_undone=False)

    def replaced() -> bool:
        row = house.one("SELECT id FROM worker WHERE state = 'live'")
        return row is not None and row[0] != before

    eventually("another worker", replaced)
    assert house.one("SELECT action, target FROM audit ORDER BY id DESC LIMIT 1") == ("drain", before)
    eventually(
        "the record says so too",
        lambda: (
            "can not be undone" in page.text("#audit tbody tr") and before in page.text("#audit tbody tr")
        ),
    )


def test_many_tasks_are_shown_first_and_then_acted_on(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.click("[data-act='pause'][data-target='photography']")
    page.confirm("Pause photography")
    made = [house.order("photography", user="o-many") for _ in range(7)]
    page.js("document.getElementById('bulk-new').open = true")
    page.js("document.querySelector('#bulk-fields [name=action]').value = 'cancel'")
    page.click("#bulk-form button")
    eventually("at least one condition", lambda: "at least one condition" in page.text("#bulk-problem"))
    page.js("document.querySelector('#bulk-fields [name=user]').value = 'o-many'")
    page.click("#bulk-form button")
    eventually("what it would concern", lambda: "7 open tasks would end" in page.text("#bulk-body"))
    assert made[-1] in page.text("#bulk-body") and page.fits_a_phone()
    page.click("#bulk-yes")
    eventually("it is done", lambda: "7 / 7" in page.text("#bulk-list"))
    counted = house.one(
        "SELECT count(*) FROM task_queue WHERE status = 'cancelled' AND user_openid = 'o-many'"
    )
    assert counted == (7,)
    assert "Cancel many" in page.text("#audit tbody tr") and page.fits_a_phone()
    page.click("[data-act='resume'][data-target='photography']")
    page.confirm("Resume photography")


def test_a_user_is_shown_blocked_and_granted_credits(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    for _ in range(2):
        house.order("photography", user="o-shown")
    page = open_page()
    page.find_task("o-shown")
    eventually("the user", lambda: "o-shown" in page.text("#user-title"))
    page.click("#user-body [data-act='block']")
    page.js("document.getElementById('sure-reason').value = 'stolen card'")
    page.confirm("Block o-shown")
    eventually("it is seen", lambda: "stolen card" in page.text("#user-body .trouble"))
    assert page.js("return document.querySelector(`#audit [data-act='undo'][data-target='block o-shown']`)")
    page.click("#user-body [data-act='grant']")
    page.js("document.getElementById('sure-reason').value = '7'")
    page.confirm("Grant o-shown", can_be_undone=False)
    eventually("its entry", lambda: "+7" in page.text("#user-body"))
    assert house.one("SELECT balance FROM account WHERE user_openid = 'o-shown'") == (105,)
    assert page.fits_a_phone()
    page.click("#user-body [data-act='user.cancel']")
    eventually("what it would concern", lambda: "2 open tasks would end" in page.text("#bulk-body"))
    page.click("#bulk-yes")
    eventually("it has begun", lambda: "it has begun" in page.text("#said"))
    eventually("they are cancelled", lambda: "refund" in page.text("#user-body"))
    page.click("#user-close")
    page.click("#audit [data-act='undo'][data-target='block o-shown']")
    page.confirm("Unblock o-shown")
    page.find_task("o-shown")
    eventually("it is seen", lambda: "Not blocked" in page.text("#user-body .trouble"))
    assert [message for message in page.complaints() if "SEVERE" in message] == []


def test_a_user_without_tasks_is_found_and_what_is_gone_is_said_to_be(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    house.darkroom("credits", "grant", "o-idle", "5", check=True)
    page = open_page()
    page.find_task("o-idle")
    eventually("the user", lambda: page.text("#user-title") == "o-idle")
    page.click("#user-close")
    page.find_task("nobody-of-this-name")
    eventually("nothing is found", lambda: "No task has this id" in page.text("#found"))
    task_id = house.order("photography", user="o-gone")
    page.find_task("o-gone")
    eventually("its task", lambda: page.text("#task-title") == task_id)
    page.js(
        """window.fetch = async () => new Response('{"detail": "There is no such user.", "type": "x:not_found"}',
            {status: 404})"""
    )
    page.click("#task-body .facts button")
    shown = "return document.querySelector('#refused:popover-open')?.textContent"
    eventually("why it is not shown", lambda: page.js(shown) == "There is no such user.")
    house.cancel(task_id, "o-gone")
    eventually("it has ended", lambda: house.task(task_id)["status"] == "cancelled")


@pytest.mark.skipif(not NPM and not os.environ.get("CI"), reason="there is no npm")
@pytest.mark.parametrize("languages", ["en-US,en", "zh-CN,zh"])
def test_no_rule_of_axe_is_broken_by_a_user_many_tasks_and_what_was_given_up(
    house: RunningSystem, open_page: Callable[..., Page], languages: str
) -> None:
    """In both themes, with a failed task whose error is long, on a phone too."""
    user = f"o-axe-{languages[:2]}"
    with contextlib.closing(sqlite3.connect(house.data_dir / "darkroom.db", timeout=15)) as connection:
        connection.execute(
            "INSERT INTO task_queue (user_openid, type, params) VALUES (?, ?, '{}')", (user, "x" * 60)
        )
        connection.commit()
    eventually("it has failed", lambda: house.one("SELECT 1 FROM task_queue WHERE type = ? AND user_openid = ?"
                                                  " AND status = 'failed'", "x" * 60, user))  # fmt: skip
    task_id = house.order("photography", user=user)
    page = open_page(languages=languages)
    page.bring_axe()
    eventually("figures", lambda: page.figure("workers"))
    page.js("for (const id of ['dead-letters', 'bulk-new']) document.getElementById(id).open = true")
    eventually("what was given up", lambda: "unknown_type" in page.text("#dead"))
    page.click("#bulk-form button")
    eventually("a condition is asked for", lambda: page.text("#bulk-problem"))
    page.find_task(user)
    eventually("the user", lambda: page.text("#user-title") == user)
    for state in ("a user", "many tasks", "a page"):
        for theme in ("light", "dark"):
            page.dress(theme)
            assert page.broken_rules() == [], f"{state}, {theme}"
        assert page.fits_a_phone(), state
        if state == "a user":
            page.click("#user-body [data-act='user.cancel']")
            eventually("what it would concern", lambda: task_id in page.text("#bulk-body"))
        elif state == "many tasks":
            page.click("#bulk-no")
            page.click("#user-close")
    house.cancel(task_id, user)
    eventually("it has ended", lambda: house.task(task_id)["status"] == "cancelled")


def test_a_viewer_sees_everything_and_no_button_that_acts(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    page = open_page(house.token("eve", "viewer"))
    eventually("figures", lambda: page.figure("workers"))
    shown = "[...document.querySelectorAll('[data-act]')].filter(each => each.offsetParent)"
    assert set(page.js(f"return {shown}.map(each => each.dataset.act)")) <= {"show"}
    assert not page.js("return document.getElementById('bulk-new').offsetParent")


def test_the_last_week_is_drawn_within_its_pictures(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    """Also where more was given back than taken, with a mark for each deploy and a gap where nothing swept."""
    row = """INSERT INTO minute_history VALUES (substr(strftime('%Y-%m-%dT%H:%M:%fZ','now',:at),1,16),
        3, 1, 0, 2.5, :n, :n, :n, :n, :credits, 0, '{"USD":1e9}', :program)"""
    rows = [
        ("-9 hours", 1, 50, "1 a"),
        ("-8 hours", 2, 90, "1 a"),
        ("-7.5 hours", 4, 20, "1 b"),
        ("-7 hours", 5, 99, "1 b"),
    ]
    with contextlib.closing(sqlite3.connect(house.data_dir / "darkroom.db", timeout=15)) as connection:
        for at, n, credits, program in rows:
            connection.execute(row, {"at": at, "n": n, "credits": credits, "program": program})
        connection.commit()
    page = open_page()
    drawn = "[...document.querySelectorAll('#week path')].map(each => each.getAttribute('d'))"
    eventually("the week is drawn", lambda: len(page.js(f"return {drawn}")) >= 7)
    paths = page.js(f"return {drawn}")
    heights = [float(each) for path in paths for each in re.findall(r",(-?[0-9.]+)", path)]
    assert len(heights) >= 7 * len(rows) and all(0 <= each <= 80 for each in heights)
    assert all(path.count("M") >= 2 for path in paths)
    assert page.js("return document.querySelectorAll('#week .deploy').length") >= len(paths)
    assert "1 b" in page.text("#deploys") and page.fits_a_phone()


def test_a_user_who_is_no_operator_gets_an_error_and_sees_nothing(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    page = open_page(house.token("o-user"))
    eventually("the question for a token", lambda: "operator" in page.text("#token-problem"))
    assert page.text("#tiles") == ""


def test_it_fits_a_phone_in_both_languages(house: RunningSystem, open_page: Callable[..., Page]) -> None:
    page = open_page()
    for _ in range(2):
        eventually("figures", lambda: page.figure("workers"))
        assert page.fits_a_phone()
        page.click("#language")
    assert page.js(
        "return [...document.querySelectorAll('button')].every(each => each.textContent || each.ariaLabel)"
    )


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as served:
        yield served


def test_nothing_that_is_long_makes_a_phones_page_or_a_dialog_wider(
    house: RunningSystem, open_page: Callable[..., Page]
) -> None:
    user = "wx_" + "o" * 110
    task_id = house.order("photography", user=user)
    page = open_page()
    page.find_task(user)
    page.click("#found button[data-key^='user:']")
    eventually("the user", lambda: page.text("#user-title") == user)
    assert page.fits_a_phone()
    page.click("#user-close")
    page.js(
        "document.querySelector('#troubles').innerHTML ="
        " `<p class='trouble bad'><span>https://example.org/${'x'.repeat(300)}</span></p>`"
    )
    assert page.fits_a_phone()
    house.cancel(task_id, user)  # the other tests of this system count what runs
    eventually("it has ended", lambda: house.task(task_id)["status"] == "cancelled")


@pytest.mark.skipif(not NPM and not os.environ.get("CI"), reason="there is no npm")
def test_a_webhook_that_was_refused_is_sent_again_and_no_rule_of_axe_is_broken_meanwhile(
    house: RunningSystem, open_page: Callable[..., Page], receiver: WebhookReceiver
) -> None:
    receiver.answers = [(410, {})]
    task_id = house.order("photography", user="o-told", more={"webhook": receiver.hook})
    eventually(
        "it runs", lambda: house.one("SELECT 1 FROM task_queue WHERE id = ? AND progress > 5", task_id)
    )
    page = open_page()
    page.dress("dark")
    page.bring_axe()
    eventually("figures", lambda: page.figure("running") == "1")
    assert page.broken_rules() == [], "something runs"
    page.find_task(task_id)
    page.click("#task-body [data-act='cancel']")
    eventually("the question", lambda: page.js("return document.getElementById('sure-dialog').open"))
    assert page.broken_rules() == [], "a question"
    page.confirm("Cancel")
    eventually("it was not wanted", lambda: page.events()[-1] == "webhook_failed")
    eventually("its address is named", lambda: receiver.hook in page.text("#webhooks"))
    assert "410" in page.text("#task-body .timeline li:last-child") and page.fits_a_phone()
    for theme in ("dark", "light"):
        page.dress(theme)
        assert page.broken_rules() == [], f"a task and an address in trouble, {theme}"
    page.click("#task-body [data-act='resend']")
    page.confirm("Send again", can_be_undone=False)
    eventually("it has arrived", lambda: page.events()[-1] == "webhook_delivered")
    assert [each.id for each in receiver.heard] == [f"msg_{task_id}_1"] * 2
    assert house.one("SELECT action, target FROM audit ORDER BY id DESC LIMIT 1") == ("resend", task_id)
    eventually("no address is in trouble", lambda: receiver.hook not in page.text("#webhooks"))
    page.click("#task-close")
    assert page.broken_rules() == [], "well again"
    assert [message for message in page.complaints() if "SEVERE" in message] == []
