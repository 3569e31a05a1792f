"""Every kind of broker address, against a real server with a password: it works, or doctor says why not."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from actors.broker.broker import MessagesNotSent
from config.settings import Settings
from supervisor.broker import broker_client
from supervisor.broker.broker_client import open_client
from supervisor.broker.broker_errors import in_words
from supervisor.broker.claim_lists import ClaimLists
from supervisor.broker.signed_claims import TASKS, ClaimKeys, ClaimMessage
from supervisor.cli.doctor.doctor import examine
from tests.support.servers.broker_server import BrokerServer, darkroom_broker, hint
from tests.support.servers.tls_proxy import tls_in_front_of

PASSWORD = "s3cret@of/the:tests"
QUOTED = "s3cret%40of%2Fthe%3Atests"


class Addresses(NamedTuple):
    """Where one server is found, database 2 of each."""

    redis: str
    rediss: str
    unix: str
    port: int
    tls_port: int


@pytest.fixture(scope="module")
def addresses() -> Iterator[Addresses]:
    folder = Path(tempfile.mkdtemp(prefix="dk-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = BrokerServer(folder, "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD)
    server.address = f"unix://{folder}/broker.sock?db=2&password={QUOTED}"
    server.start()
    with tls_in_front_of(("127.0.0.1", port), folder) as (tls_port, authority):
        yield Addresses(
            f"redis://:{QUOTED}@127.0.0.1:{port}/2",
            f"rediss://default:{QUOTED}@localhost:{tls_port}/2?ssl_ca_certs={authority}",
            server.address,
            port,
            tls_port,
        )
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("kind", ["redis", "rediss", "unix"])
def test_hints_travel_over_every_kind_of_address(addresses: Addresses, kind: str) -> None:
    address: str = getattr(addresses, kind)
    server = BrokerServer(Path("/nowhere"))
    server.address = address
    with open_client(address) as client:
        client.flushdb()
        broker = darkroom_broker(server)
        broker.enqueue_many([hint("a"), hint("b")])
        consumer = broker.consume("tasks", prefetch=2, timeout=100)
        found = []
        for _ in range(10):
            if (message := next(consumer)) is not None:
                found.append(message)
            if len(found) == 2:
                break
        assert [message.args for message in found] == [("a",), ("b",)]
        consumer.close()
        assert client.connection_pool.connection_kwargs["db"] == 2
        assert client.dbsize() > 0, "everything lies in the database that the address names"
    for other in (0, 1):
        with open_client(addresses.redis.replace("/2", f"/{other}")) as client:
            assert client.dbsize() == 0
    broker.close()


@pytest.mark.parametrize("kind", ["redis", "rediss", "unix"])
async def test_claims_travel_over_every_kind_of_address(addresses: Addresses, kind: str) -> None:
    large = [{"id": f"t-{n}", "params": "x" * 8000} for n in range(20)]  # more than one record of TLS
    with open_client(getattr(addresses, kind)) as client:
        lists = ClaimLists(client, ClaimKeys(["a secret of 32 characters or more"]))
        own = lists.of_worker(TASKS, "w")
        for claims in ([{"id": "t-1", "params": None}], large):
            popping = asyncio.ensure_future(own.pop(seconds=60))
            await asyncio.to_thread(lists.push, [ClaimMessage(TASKS, "w", claims)])
            popped = await popping
            assert popped is not None
            message = lists.opened(TASKS, "w", popped.sent)
            assert message is not None and message.claims == claims
            assert await own.own()
        own.close()


@pytest.mark.parametrize("kind", ["redis", "rediss", "unix"])
def test_doctor_finds_the_broker_well_and_hides_its_password(
    addresses: Addresses, kind: str, tmp_path: Path
) -> None:
    said = _doctor(tmp_path, getattr(addresses, kind), well=True)
    assert "***" in said


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("redis://:wrong@127.0.0.1:{port}/2", "refuses the user or the password"),
        ("redis://nobody:wrong@127.0.0.1:{port}/2", "refuses the user or the password"),
        ("redis://127.0.0.1:{port}/2", "it wants a password"),
        (f"redis://:{QUOTED}@127.0.0.1:{{port}}/99", "no database of this number"),
        (f"rediss://:{QUOTED}@localhost:{{tls_port}}/2", "certificate is not trusted"),
        (f"rediss://:{QUOTED}@127.0.0.1:{{port}}/2", "does not answer in time"),
        ("redis://:wrong@127.0.0.1:1/2", "can't be reached"),
        ("unix:///nowhere/broker.sock?password=wrong", "can't be reached"),
    ],
)
def test_a_wrong_broker_address_is_reported(
    addresses: Addresses,
    address: str,
    sentence: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker_client, "SOCKET_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(broker_client, "CONNECT_TIMEOUT_SECONDS", 1.0)
    address = address.format(port=addresses.port, tls_port=addresses.tls_port)
    said = _doctor(tmp_path, address, well=False)
    assert sentence in said and "DARKROOM_BROKER_URL" in said
    assert "wrong" not in said and "s3cret" not in said
    server = BrokerServer(Path("/nowhere"))
    server.address = address
    broker = darkroom_broker(server)
    with pytest.raises(MessagesNotSent) as caught:
        broker.enqueue(hint("a"))
    assert caught.value.certain and sentence in in_words(caught.value.__cause__ or caught.value)
    with caplog.at_level(logging.WARNING):
        next(broker.consume("tasks", prefetch=1, timeout=100))
    assert sentence in caplog.text and "wrong@" not in caplog.text
    broker.close()


def _doctor(tmp_path: Path, address: str, *, well: bool) -> str:
    """What doctor says of the broker."""
    settings = Settings(data_dir=tmp_path, broker_url=address)
    (finding,) = [each for each in examine(settings) if each.part == "broker"]
    assert finding.well is well and "\n" not in finding.sentence
    assert PASSWORD not in finding.sentence and QUOTED not in finding.sentence
    return finding.sentence


def test_processes_that_were_forked_after_the_import_are_different_consumers_to_the_broker():
    """With one id they took each other's unacknowledged messages for lost ones, and gave them back."""
    code = """
import os, sys
import actors, dramatiq
reading, writing = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.write(writing, dramatiq.get_broker().broker_id.encode() + b" ")
        os._exit(0)
    os.wait()
print(os.read(reading, 200).decode(), dramatiq.get_broker().broker_id)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert len(set(said.stdout.split())) == 3
