"""kill -9 of a web process at each point of an order by an SDK: the repeat, at whatever web it arrives, is one task."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import fal_client
import openai
import pytest
import pytest_asyncio
import replicate

from config.settings import Settings
from supervisor.processes.parent_death import dying_with_us
from supervisor.schema.migrate import migrate
from tests.conftest import Store
from tests.support.databases import KINDS, fresh_settings, open_quickly
from tests.support.houses.door_shop import DoorShop
from tests.support.houses.stalling_web import STALLED
from tests.support.houses.web_server import SECRET, Web, until
from tests.support.repository import ROOT
from tests.support.servers.cutting_proxy import ANSWER, BODY, REQUEST, STORED, CuttingProxy, cutting_proxy
from tests.support.servers.postgres_databases import give_back
from web.handling.context import make_context

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

CONFIG = "[tasks.poster.inputs]\nimages = [0, 4]\n[credits]\nsignup_grant = 10\n"
MODEL = "darkroom/poster"
POINTS = (BODY, REQUEST, STORED, ANSWER)


class WebProcess:
    """A web process with a folder of its own, over the same database and files as others."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._url = folder, folder / "data" / "url"
        (folder / "data").mkdir(parents=True)
        (folder / "darkroom.toml").write_text(CONFIG)
        told = {
            "CONFIG": folder / "darkroom.toml",
            "DATA_DIR": folder / "data",
            "DATABASE_URL": settings.database_url,
            "STORAGE_URL": settings.storage_url,
            "SECRET": SECRET,
            "PORT": 0,
        }
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        environ |= {f"DARKROOM_{name}": str(value) for name, value in told.items()}
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                dying_with_us([sys.executable, "-m", "tests.support.houses.stalling_web"]),
                env=environ | {"PYTHONPATH": str(ROOT)}, cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip

    async def url(self) -> str:
        """Once it serves."""
        await until(self._url.exists, f"it serves: {(self._folder / 'log').read_text()[-2000:]}")
        return self._url.read_text().strip()

    def stall(self) -> None:
        """Answer no order any more."""
        (self._folder / STALLED).touch()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class House:
    """Two web processes, a worker in this one, and a proxy through which the SDKs reach one of the webs.

    The first web is killed at the planned points; then the proxy leads to the second, or to one that is started anew.
    """

    def __init__(self, folder: Path, settings: Settings, shop: DoorShop, proxy: CuttingProxy) -> None:
        self._folder, self._settings, self._number = folder, settings, 0
        self.shop, self.proxy = shop, proxy
        self.store = Store(settings, shop.web.database)
        self.webs: list[WebProcess] = []

    def start_web(self) -> WebProcess:
        self._number += 1
        self.webs.append(WebProcess(self._folder / f"web-{self._number}", self._settings))
        return self.webs[-1]

    async def is_ready(self) -> None:
        """Two webs serve, and the proxy leads to the first."""
        while len(self.webs) < 2:
            self.start_web()
        self.proxy.lead_to(await self.webs[0].url())
        await self.webs[1].url()

    async def plan(self, user: str, point: str, *, is_restarted: bool = False, times: int = 1) -> None:
        """The next order of this user is cut here, by a kill of its web, as often."""
        await self.is_ready()
        if point == STORED:
            for each in self.webs[:times]:
                each.stall()

        async def is_stored() -> None:
            await until(lambda: self.shop.tasks(user), "it is stored")

        async def kill() -> None:
            self.webs.pop(0).kill()
            if is_restarted:
                self.webs.insert(0, self.start_web())
                self.webs.pop()
            self.proxy.lead_to(await self.webs[0].url())

        self.proxy.plan, self.proxy.is_stored, self.proxy.before_cut = [point] * times, is_stored, kill
        self.proxy.posts = 0

    async def completes(self, user: str) -> None:
        """The one task of this user is made."""
        (claim,) = await self.shop.held_of(user)
        await self.shop.complete(claim)

    def has_paid_once(self, user: str) -> None:
        assert len(self.shop.tasks(user)) == self.shop.debits(user) == 1
        assert self.store.balance(user) == 9, "and the balance is the sum of the ledger"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def house(request: pytest.FixtureRequest, tmp_path_factory: Any) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("killed")
    settings = fresh_settings(
        folder, kind=request.param, secret=SECRET, credits={"signup_grant": 10},
        tasks={"poster": {"inputs": {"images": [0, 4]}}}, storage_url=f"file://{folder}/files",
    )  # fmt: skip
    migrate(settings)
    web = Web(settings)  # only what a worker needs of it
    web.database = open_quickly(settings)
    web.context = make_context(settings, web.database, SECRET, lambda _: b"")
    shop = DoorShop(web)
    running = asyncio.create_task(shop.run())
    async with cutting_proxy("http://127.0.0.1:1") as proxy:
        made = House(folder, settings, shop, proxy)
        try:
            yield made
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            for each in made.webs:
                each.kill()
            await asyncio.to_thread(web.database.close)
            if settings.database_url.startswith("postgres"):
                give_back(settings.database_url)


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"o-{request.node.name[:80]}"


@pytest.mark.parametrize("point", POINTS)
async def test_openais_sdk_pays_once(house: House, user: str, point: str) -> None:
    await house.plan(user, point)
    async with openai.AsyncOpenAI(
        base_url=f"{house.proxy.url}/openai/v1", api_key=house.shop.key(user)
    ) as client:
        asked = asyncio.create_task(client.images.generate(model=MODEL, prompt="wait"))
        await until(lambda: house.proxy.posts == 2, "the SDK has repeated it")
        await house.completes(user)
        assert len((await asked).data or []) == 1
    house.has_paid_once(user)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_held_order_outlives_a_web_that_is_killed_and_started_anew(
    house: House, user: str, times: int
) -> None:
    await house.plan(user, ANSWER, is_restarted=True, times=times)
    async with openai.AsyncOpenAI(
        base_url=f"{house.proxy.url}/openai/v1", api_key=house.shop.key(user)
    ) as client:
        asked = asyncio.create_task(client.images.generate(model=MODEL, prompt="wait"))
        await until(lambda: house.proxy.posts == times + 1, "the SDK has repeated it")
        await house.completes(user)
        assert len((await asked).data or []) == 1
    house.has_paid_once(user)


@pytest.mark.parametrize(
    ("call", "point"),
    [*(("run", point) for point in POINTS), *(("submit", point) for point in POINTS if point != ANSWER)],
)
async def test_fals_sdk_pays_once(
    house: House, user: str, call: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{house.proxy.url}/fal/queue/")
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{house.proxy.url}/fal/run/")
    await house.plan(user, point)
    client = fal_client.AsyncClient(key=house.shop.key(user))
    asked = asyncio.create_task(getattr(client, call)(MODEL, {"prompt": "wait"}))
    await until(lambda: house.proxy.posts == 2, "the SDK has repeated it")
    await house.completes(user)
    await asked
    house.has_paid_once(user)


@pytest.mark.parametrize("point", [each for each in POINTS if each != ANSWER])
async def test_who_repeats_an_order_by_replicates_sdk_pays_once(house: House, user: str, point: str) -> None:
    await house.plan(user, point)
    client = replicate.Client(api_token=house.shop.key(user), base_url=f"{house.proxy.url}/replicate")
    order: Callable[[], Any] = lambda: client.predictions.create(model=MODEL, input={"prompt": "wait"})  # noqa: E731
    with pytest.raises(Exception, match=r"disconnected|closed|reset|Error"):
        await asyncio.to_thread(order)
    made = await asyncio.to_thread(order)
    assert [made.id] == house.shop.tasks(user)
    house.has_paid_once(user)


async def test_equal_orders_of_which_one_was_killed_stay_several(house: House, user: str) -> None:
    await house.is_ready()
    async with contextlib.AsyncExitStack() as opened:
        one, other = [
            await opened.enter_async_context(
                openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key=house.shop.key(user))
            )
            for url in (house.proxy.url, await house.webs[1].url())
        ]
        asked = [asyncio.create_task(other.images.generate(model=MODEL, prompt="wait")) for _ in range(2)]
        await house.shop.held_of(user, 2)
        await house.plan(user, ANSWER)
        asked.append(asyncio.create_task(one.images.generate(model=MODEL, prompt="wait")))
        await until(lambda: house.proxy.posts == 2, "the SDK has repeated it")
        await house.shop.held_of(user, 3)
        asked.append(asyncio.create_task(other.images.generate(model=MODEL, prompt="wait")))
        for claim in await house.shop.held_of(user, 4):
            await house.shop.complete(claim)
        assert [len((await each).data or []) for each in asked] == [1, 1, 1, 1]
    assert len(house.shop.tasks(user)) == house.shop.debits(user) == 4
    assert house.store.balance(user) == 6
