"""Random requests, a few hundred: none is answered with a 5xx.  `python -m tests.fuzz` sends them for minutes."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import aiohttp.web
import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.requests import Known, next_request
from tests.fuzz.watching import machines_part
from tests.support.databases import KINDS
from tests.support.houses.web_server import SECRET, running_web
from tests.support.servers.served_app import ServedApp
from web.app.app import ADDRESSES


@pytest.mark.parametrize("kind", KINDS)
async def test_no_random_request_is_a_fault(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    settings = {"limits": {"open_tasks_per_user": 0}, "credits": {"enabled": False}}
    async with running_web(tmp_path, kind, **settings) as web:
        seen = await fuzz(web.url, 1, 60, most=300, secret=SECRET)
    assert seen.faults == []
    assert {"200", "201", "202", "400", "401", "404", "422"} <= seen.statuses.keys()
    assert [each.getMessage() for each in caplog.records if each.exc_info] == []


def test_a_seed_makes_the_same_requests_again() -> None:
    def known() -> Known:
        return Known([(each.method, each.path) for each in ADDRESSES], ["Bearer x", ""], "127.0.0.1")

    first, again, other = (
        [next_request(random, known()).bytes for _ in range(50)]
        for random in (Random(7), Random(7), Random(8))
    )
    assert first == again != other
    assert len(set(first)) > 40


def test_waiting_for_a_core_is_no_stall_of_webs_own() -> None:
    before = {"7": 1.0, "self": 2.0, "8": 3.0}
    assert machines_part(7, before, before) == 0
    after = {"7": 1.5, "self": 2.25, "8": 3.125, "9": 0.0625}
    assert machines_part(7, before, after) == 0.5 + 0.25 + 0.125


async def test_a_faulty_answer_is_reported_with_its_request() -> None:
    class Faulty(ServedApp):
        def application(self) -> aiohttp.web.Application:
            app = aiohttp.web.Application()
            app.router.add_route("*", "/{path:.*}", self.fail)
            return app

        async def fail(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
            return aiohttp.web.Response(status=500, text="a traceback")

    with Faulty() as faulty:
        seen = await fuzz(faulty.url, 1, 60, most=5)
    assert seen.faults and all(each.startswith(("500: b'", '500: b"')) for each in seen.faults)
