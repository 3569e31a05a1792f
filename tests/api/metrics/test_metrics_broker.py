"""A scrape asks whether the broker answers; a broker that hangs does not delay the scrape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from config.settings import Settings
from metrics.broker_probe import BrokerProbe
from supervisor.cli.doctor.doctor import examine
from tests.support.houses.metrics_shop import Told
from tests.support.servers.broker_server import BrokerServer, broker_server


@pytest.fixture
def server() -> Iterator[BrokerServer]:
    with broker_server() as server:
        yield server


def look(settings: Settings) -> Told:
    registry = CollectorRegistry()
    registry.register(BrokerProbe(settings, patience_seconds=5.0))
    return Told(generate_latest(registry))


@pytest.mark.parametrize("where", ["embedded", "configured"])
def test_a_broker_that_answers_is_up_and_one_that_hangs_or_is_gone_is_not(
    server: BrokerServer, where: str
) -> None:
    # The embedded broker is found in the data folder, by the same name as here.
    url = {} if where == "embedded" else {"broker_url": server.address}
    settings = Settings(data_dir=server.folder, **url)
    told = look(settings)
    assert told("darkroom_broker_up") == 1
    assert 0 < told("darkroom_broker_roundtrip_seconds") < 5
    with server.frozen():
        told = look(settings)
        assert told("darkroom_broker_up") == 0
        assert not told.label_sets("darkroom_broker_roundtrip_seconds")
    server.stop()
    assert look(settings)("darkroom_broker_up") == 0


def test_a_broker_user_with_only_ping_is_reported_by_doctor(server: BrokerServer) -> None:
    with redis.Redis.from_url(server.address) as admin:
        for user, rights in (("ping", "+ping"), ("reader", "~* +@read +@connection"), ("all", "~* +@all")):
            admin.execute_command("ACL", "SETUSER", user, "on", ">right", *rights.split())
    where = server.address.removeprefix("unix://")
    told = {
        user: Settings(data_dir=server.folder, broker_url=f"unix://{user}:right@{where}")
        for user in ("ping", "reader", "all")
    }
    assert {user: look(settings)("darkroom_broker_up") for user, settings in told.items()} == {
        "ping": 0, "reader": 0, "all": 1,
    }  # fmt: skip
    for user in ("ping", "reader"):
        (found,) = [each for each in examine(told[user]) if each.part == "broker"]
        assert not found.well and "its user may not run our commands" in found.sentence
    with redis.Redis.from_url(server.address) as admin:
        assert admin.dbsize() == 0, "nothing is left of the trial"


def test_an_address_that_can_not_be_read_is_a_broker_that_is_down(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1")
    assert look(settings)("darkroom_broker_up") == 0
