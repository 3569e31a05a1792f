"""The console and the operators' page show the steps of a task while it is made."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.fakes.painter import Painter, portrait_house
from tests.support.running_system import SAMPLES, RunningSystem
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI"),
        reason="there is no Chromium",
    ),
]
STEPS = "return [...document.querySelectorAll('.card .steps li')].map((each) => each.dataset.status)"


@pytest.fixture(scope="module")
def painter() -> Iterator[Painter]:
    with Painter() as opened:
        yield opened


@pytest.fixture(scope="module")
def house(painter: Painter) -> Iterator[RunningSystem]:
    with (
        tempfile.TemporaryDirectory(prefix="dk-steps-") as folder,
        portrait_house(Path(folder), painter, painter) as opened,
    ):
        yield opened


@pytest.fixture
def page(house: RunningSystem, request: pytest.FixtureRequest) -> Iterator[Browser]:
    page = Browser(house.link, languages=request.param)
    page.driver.get(house.url + "/")
    yield page
    page.quit()


def _photograph(page: Browser, name: str) -> None:
    if folder := os.environ.get("TEST_SCREENSHOTS"):
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize("page", ["en-US,en", "zh-CN,zh"], ids=["en", "zh"], indirect=True)
def test_the_steps_are_shown_while_a_portrait_is_made(
    page: Browser, painter: Painter, house: RunningSystem
) -> None:
    painter.hold(True)
    choice = "return document.querySelector('[value=portrait]') !== null"
    eventually("the type is there", lambda: page.js(choice))
    page.js("document.querySelector('[value=portrait]').click()")
    eventually(
        "the form is made",
        lambda: page.js("return document.querySelector('input[type=file][accept^=image]') !== null"),
    )
    page.find("input[type=file][accept^=image]").send_keys(str(SAMPLES / "portrait.png"))
    eventually("the order can be sent", lambda: page.find("#submit").is_enabled())
    page.js("document.getElementById('submit').click()")
    eventually("the painter has it", lambda: page.js(STEPS) == ["done", "running", "waiting"], 60)
    lang = page.js("return document.documentElement.lang")
    said = page.text(".card .steps")
    assert ("cut_out: done" in said) if lang == "en" else ("cut_out: 完成" in said)
    assert page.text(".card .stage").startswith("paint: ")
    for theme in ("light", "dark"):
        page.dress(theme)
        _photograph(page, f"console-steps-{lang}-{theme}")
    assert page.complaints() == []
    task_id = house.one("SELECT id FROM task_queue ORDER BY created_at DESC LIMIT 1")[0]
    page.driver.get(f"{house.url}/ops")
    page.js(
        "const form = document.getElementById('search'); form.querySelector('input').value = arguments[0];"
        " form.requestSubmit()",
        task_id,
    )
    link = f"document.querySelector('[data-key=\"task:{task_id}\"]')"
    eventually("it is found", lambda: page.js(f"return {link} !== null"))
    page.js(f"{link}.click()")
    rows = "return document.getElementById('task-dialog').textContent"
    eventually("its steps are shown", lambda: "cut_out" in page.js(rows) and "enlarge" in page.js(rows))
    page.js("[...document.querySelectorAll('#task-dialog h3')][0].scrollIntoView()")
    _photograph(page, f"ops-steps-{lang}")
    painter.hold(False)
    page.driver.get(f"{house.url}/")
    status = "return document.querySelector('.card')?.dataset.status"
    eventually("it is made", lambda: page.js(status) == "completed", 60)
    assert page.js("return document.querySelector('.card .steps').hidden")
