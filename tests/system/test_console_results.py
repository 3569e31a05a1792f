"""The console shows what comes back: films and sound play, JSON is shown, other files are saved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.fakes.fake_ai_service import FakeAiService
from tests.support.houses.four_types import four_types
from tests.support.running_system import SAMPLES, RunningSystem, running_system
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI"),
        reason="there is no Chromium",
    ),
]


@pytest.fixture(scope="module")
def house() -> Iterator[RunningSystem]:
    with (
        FakeAiService() as service,
        running_system(lifted=False, WORKER_PROCESSES="1", **four_types(service)) as house,
    ):
        yield house


@pytest.fixture
def page(house: RunningSystem, request: pytest.FixtureRequest) -> Iterator[Browser]:
    page = Browser(house.url + "/docs", languages=getattr(request, "param", "en-US,en"))
    page.js(
        "sessionStorage.setItem('darkroom.token', arguments[0])",
        house.token(f"o-{abs(hash(request.node.name))}"),
    )
    page.driver.get(house.url + "/")
    eventually(
        "the types are there", lambda: page.js("return document.querySelector('[value=film]') !== null")
    )
    yield page
    page.quit()


def _choose(page: Browser, type_: str) -> None:
    page.js(f"document.querySelector('[value={type_}]').click()")


def _order(page: Browser) -> None:
    eventually("the order can be sent", lambda: page.find("#submit").is_enabled())
    page.js("document.getElementById('submit').click()")
    done = "return document.querySelector('.card')?.dataset.status"
    eventually("it is made", lambda: page.js(done) == "completed", 60)


def _photograph(page: Browser, name: str) -> None:
    if folder := os.environ.get("TEST_SCREENSHOTS"):
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_a_film_plays_on_its_card_and_its_data_stands_beside_it(page: Browser) -> None:
    _choose(page, "film")
    eventually("the form is made", lambda: page.js("return document.getElementById('image1') !== null"))
    assert page.js("return document.getElementById('other-audio').accept") == "audio/*"
    page.find("#image1").send_keys(str(SAMPLES / "portrait.png"))
    _order(page)
    eventually(
        "the film is read",
        lambda: page.js("return document.querySelector('.made video')?.readyState >= 1"),
        30,
    )
    assert page.js("return document.querySelector('.made video').videoWidth") == 128
    page.js("const film = document.querySelector('.made video'); film.muted = true; film.play()")
    eventually(
        "it plays", lambda: page.js("return document.querySelector('.made video').currentTime > 0"), 30
    )
    assert page.js("return JSON.parse(document.querySelector('.made pre').textContent)") == {"seconds": 2}
    assert page.text(".card .line") == "1 file"
    assert page.complaints() == [], "neither the policy nor the script has anything to say"
    _photograph(page, "result-film")


@pytest.mark.parametrize("page", ["en-US,en", "zh-CN,zh"], ids=["en", "zh"], indirect=True)
def test_an_answer_in_json_is_shown(page: Browser) -> None:
    _choose(page, "caption")
    page.find("#prompt").send_keys("what is it")
    _order(page)
    shown = "return JSON.parse(document.querySelector('.made pre').textContent)"
    assert page.js(shown) == {"caption": "A fair in May", "score": 0.5}
    assert page.text(".card .line") in ("Data", "数据")
    assert page.js("return document.querySelector('.card [data-act=open]').hidden") is True
    _photograph(page, f"result-json-{page.js('return document.documentElement.lang')}")


def test_thirty_fields_are_a_form_and_pictures_from_words_hang_as_ever(page: Browser) -> None:
    _choose(page, "form")
    eventually(
        "the fields", lambda: page.js("return document.querySelectorAll('[data-parameter]').length") == 30
    )
    _photograph(page, "thirty-fields")
    page.find("[data-parameter=field_01]").send_keys("words")
    _order(page)
    assert page.js("return JSON.parse(document.querySelector('.made pre').textContent).field_01") == "words"
    _choose(page, "poster")
    page.find("#prompt").send_keys("a fair")
    page.js("document.getElementById('submit').click()")
    eventually(
        "the poster", lambda: page.js("return document.querySelector('.pictures img')?.naturalWidth"), 60
    )
