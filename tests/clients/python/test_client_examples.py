"""The examples on FastAPI, Django and Flask: each orders, is told the end by a real webhook, and counts it once."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from supervisor.security.tokens import make_user_token
from tests.support.clients.wheels import CLIENT
from tests.support.houses.instant_house import INSTANT
from tests.support.houses.web_server import picture_bytes
from tests.support.repository import ROOT
from tests.support.running_system import RunningSystem, running_system

EXAMPLES = CLIENT / "examples"
DEADLINE_SECONDS = 120.0
APPS = {
    "fastapi": ["-m", "uvicorn", "--port", "{port}", "fastapi_app:app"],
    "flask": ["-m", "flask", "--app", "flask_app", "run", "--port", "{port}"],
    "django": ["django_app.py", "runserver", "--noreload", "{port}"],
}


@pytest.fixture(scope="module")
def system() -> Iterator[RunningSystem]:
    private = {"WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true"}
    with running_system(python_path=[ROOT], **INSTANT, **private) as running:
        yield running


def _darkroom(system: RunningSystem, *command: str) -> str:
    return system.darkroom(*command, check=True, timeout=60).stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def _shop(name: str, system: RunningSystem, folder: Path) -> Iterator[httpx.Client]:
    """A client of the running example."""
    port = _free_port()
    secret = (system.data_dir / "secret").read_text().strip()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(CLIENT / "src")]),
        "DARKROOM_URL": system.url,
        "DARKROOM_TOKEN": make_user_token(secret, f"shop-{name}", ttl_seconds=600),
        "DARKROOM_WEBHOOK_KEY": _darkroom(system, "webhooks", "secret"),
        "DARKROOM_TYPE": "instant",
        "SHOP_URL": f"http://127.0.0.1:{port}",
        "SHOP_DATABASE": str(folder / "shop.db"),
    }
    command = [sys.executable, *(part.format(port=port) for part in APPS[name])]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, env=environ, cwd=EXAMPLES, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=environ["SHOP_URL"], timeout=60) as client:

            def answers() -> bool:
                assert running.poll() is None, (folder / "log").read_text()
                with contextlib.suppress(httpx.TransportError):
                    return client.get("/orders/none").status_code == 404
                return False

            _until(answers, "the shop is open")
            yield client
    finally:
        running.terminate()
        running.wait(30)


@pytest.mark.parametrize("name", APPS)
def test_a_shop_orders_once_and_counts_a_message_once(
    name: str, system: RunningSystem, tmp_path: Path
) -> None:
    with _shop(name, system, tmp_path) as shop:
        first = shop.post("/orders/7", content=picture_bytes())
        again = shop.post("/orders/7", content=picture_bytes())
        assert first.status_code == 202, first.text
        # The second photo is another upload, so the same key means another body: it is refused, not ordered.
        assert again.status_code == 422 and "Idempotency-Key" in again.text
        task_id = first.json()["task_id"]
        told = _until(lambda: _told(shop), "the end is told")
        assert (told["task_id"], told["status"], told["pictures"]) == (task_id, "completed", 1)
        message = f"msg_{task_id}_1"
        assert system.sql(f"SELECT count(*) FROM task_queue WHERE user_openid = 'shop-{name}'") == [(1,)]
        _until(lambda: _state(system, message) == ("delivered", 1), "the message has arrived")
        _darkroom(system, "webhooks", "resend", message)
        _until(lambda: _state(system, message) == ("delivered", 1), "it has arrived again")
        assert shop.get("/orders/7").json()["pictures"] == 1
        assert shop.post("/hooks/darkroom", content=b"{}").status_code == 400
        assert shop.post("/orders/8", content=b"no picture").status_code == 415


def _told(shop: httpx.Client) -> Any:
    found = shop.get("/orders/7").json()
    return found if found["status"] else None


def _state(system: RunningSystem, message: str) -> tuple[Any, ...]:
    return system.sql(f"SELECT state, attempts FROM webhook_delivery WHERE id = '{message}'")[0]
