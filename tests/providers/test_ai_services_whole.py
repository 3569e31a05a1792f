"""AI services on a whole running system, each a real server outside it; keys appear only in requests."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator

import pytest

from tests.support.fakes.fal_service import Fal
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.cog_server import CogServer

KEY = "id-tell:nobody-654"
pytestmark = pytest.mark.timeout(300)  # a whole system, on a machine with much else to do


def provider(name: str, **settings: str) -> dict[str, str]:
    """A type, and its provider of the same name."""
    given = {f"PROVIDERS__{name}__{key}": value for key, value in settings.items()}
    return given | {f"TASKS__{name}__PROVIDER": name, f"PROVIDERS__{name}__ALLOW_PRIVATE_ADDRESSES": "true"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("services")
    cog_options = {"dialect": "cog", "input": {"image": "${input.0.data_uri}", "seconds": 0.3}}
    with CogServer(folder / "cog") as cog, Fal() as fal:
        settings = {"LOG_LEVEL": "debug", "CREDITS__ENABLED": "true"}
        for name, mode in (("held", "sync"), ("called", "callback")):
            settings |= provider(
                name,
                KIND="replicate",
                URL=cog.url,
                MODE=mode,
                OPTIONS__DIALECT="cog",
                OPTIONS__INPUT=json.dumps(cog_options["input"]),
            )
        settings |= provider("asked", PRESET="fal", URL=fal.url, SECRETS__KEY=KEY, POLL__INTERVAL="[0.5, 1]")
        with running_system(log=folder / "log", **settings) as system:
            yield system


@pytest.mark.parametrize("type_", ["held", "called", "asked"])
def test_an_order_ends_with_its_picture_and_one_bill(shop: RunningSystem, type_: str) -> None:
    task = shop.order(type_)
    assert shop.ends(task, 60) == "completed", shop.task(task)["error"]
    (image,) = json.loads(shop.all("SELECT images FROM works WHERE task_id = ?", task)[0]["images"])
    assert (image["width"], image["height"]) == ((40, 30) if type_ == "asked" else (64, 64))
    assert shop.evidence(task) == ["done"]
    assert shop.booked(task) == [("debit", -1)]


def test_the_key_is_nowhere_but_in_the_requests(
    shop: RunningSystem, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = shop.order("asked")
    assert shop.ends(task, 60) == "completed"
    log = next(tmp_path_factory.getbasetemp().glob("services*/log"))
    assert b"attempt_ended" in log.read_bytes()  # it is the log, and a chatty one
    everything = [log, *(path for path in shop.data_dir.rglob("*") if path.is_file())]
    assert not [path for path in everything if KEY.encode() in path.read_bytes()]
    with contextlib.closing(sqlite3.connect(shop.database)) as connection:
        assert KEY not in "\n".join(connection.iterdump())
