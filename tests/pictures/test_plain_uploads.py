"""Uploads are decoded in children that can be killed, know no secret, and are shared fairly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.pictures.process_pool import ImageProcesses
from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web, until
from tests.support.image_children import children
from tests.support.providers.greedy_image_child import JPEG_HEAD
from tests.support.repository import ROOT

IMAGES = "/v1/images"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, and needs its limits")


@pytest.fixture
async def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    monkeypatch.setenv("DARKROOM_SECRET", "a secret that no child may know")
    monkeypatch.setenv("SOME_API_KEY", "neither this one")
    async with running_web(tmp_path) as running:
        yield running


def be_greedy(web: Web, size: int = 2, **options: Any) -> None:
    """From now on its children are those of `tests.support.providers.greedy_image_child`."""
    web.context.plain_uploads._processes = ImageProcesses(
        size,
        "tests.support.providers.greedy_image_child",
        most_each=max(1, size - 1),
        stays_warm=True,
        **options,
    )


async def upload(
    http: aiohttp.ClientSession, web: Web, data: bytes, user: str = "o-1"
) -> tuple[int, dict[str, Any], Any]:
    headers = bearer(user) | {"Content-Type": "image/jpeg"}
    async with http.post(web.url + IMAGES, data=data, headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_a_picture_that_costs_too_much_time_is_refused_and_its_child_is_gone(
    web: Web, http: aiohttp.ClientSession
) -> None:
    be_greedy(web)
    status, problem, _ = await upload(http, web, JPEG_HEAD + b"burn")
    assert status == 422 and problem["type"].endswith("image_unusable")
    assert problem["detail"].endswith(".") and "decode" in problem["detail"]
    assert (await upload(http, web, JPEG_HEAD + b"any"))[0] == 201


async def test_a_picture_that_needs_too_much_memory_is_refused(web: Web, http: aiohttp.ClientSession) -> None:
    be_greedy(web)
    status, problem, _ = await upload(http, web, JPEG_HEAD + b"eat")
    assert status == 422 and problem["type"].endswith("image_unusable")
    assert (await upload(http, web, JPEG_HEAD + b"any"))[0] == 201


async def test_a_child_that_is_killed_from_outside_is_not_the_pictures_fault(
    web: Web, http: aiohttp.ClientSession
) -> None:
    be_greedy(web)
    of_others = children()
    sent = asyncio.create_task(upload(http, web, JPEG_HEAD + b"sleep"))
    await until(lambda: children() - of_others, "a child has been started")
    [pid] = children() - of_others
    os.kill(pid, signal.SIGKILL)
    status, _, headers = await sent
    assert status == 503 and int(headers["Retry-After"]) >= 1


async def test_a_child_knows_no_secret(web: Web, http: aiohttp.ClientSession) -> None:
    before = children()
    assert (await upload(http, web, picture_bytes()))[0] == 201
    [child] = children() - before
    environ = Path(f"/proc/{child}/environ").read_bytes()
    assert b"SECRET" not in environ and b"API_KEY" not in environ and b"PATH=" in environ
    opened = {os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")}
    assert not any("darkroom.db" in path for path in opened)
    assert (await upload(http, web, picture_bytes()))[0] == 201
    assert children() - before == {child}, "it stays warm"


def test_web_loads_no_image_library() -> None:
    program = (
        "import sys, web.app.app, web.__main__; print([name for name in ('PIL',) if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.strip() == "[]", ran.stderr


async def test_one_users_dear_pictures_leave_a_child_to_the_others(
    web: Web, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    be_greedy(web)
    marks = [tmp_path / f"mark-{n}" for n in range(3)]
    held = [
        asyncio.create_task(upload(http, web, JPEG_HEAD + f"hold {mark}".encode(), "hog")) for mark in marks
    ]
    await until(lambda: any(mark.exists() for mark in marks), "one of the hog's pictures is being decoded")
    assert (await upload(http, web, JPEG_HEAD + b"any", "o-2"))[0] == 201
    assert not any(task.done() for task in held) and sum(mark.exists() for mark in marks) == 1
    for _ in marks:
        await until(lambda: any(mark.exists() for mark in marks), "the next one is being decoded")
        next(mark for mark in marks if mark.exists()).unlink()
    assert [status for status, _, _ in await asyncio.gather(*held)] == [201, 201, 201]


async def test_pictures_are_decoded_side_by_side_only_while_there_is_room(
    web: Web, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    be_greedy(web, most_pixels=10)  # each claims eight
    first, second = tmp_path / "first", tmp_path / "second"
    one = asyncio.create_task(upload(http, web, JPEG_HEAD + f"hold {first}".encode(), "o-1"))
    await until(first.exists, "the first is being decoded")
    other = asyncio.create_task(upload(http, web, JPEG_HEAD + f"hold {second}".encode(), "o-2"))
    room = web.context.plain_uploads._processes._room
    await until(lambda: room._waiting, "the second waits for room")
    assert not second.exists()
    first.unlink()
    await until(second.exists, "the second is being decoded")
    second.unlink()
    assert (await one)[0] == (await other)[0] == 201


async def test_a_picture_that_waits_too_long_gets_retry_after(
    web: Web, http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.uploads.plain_uploads.WAIT_SECONDS", 0.1)
    be_greedy(web, 1)
    mark = tmp_path / "mark"
    held = asyncio.create_task(upload(http, web, JPEG_HEAD + f"hold {mark}".encode()))
    await until(mark.exists, "a picture is being decoded")
    status, problem, headers = await upload(http, web, JPEG_HEAD + b"any", "o-2")
    assert status == 503 and problem["type"].endswith("pictures_waiting") and int(headers["Retry-After"]) >= 1
    mark.unlink()
    assert (await held)[0] == 201


async def test_a_client_that_disconnects_frees_the_child(
    web: Web, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    be_greedy(web, 1)
    mark = tmp_path / "mark"
    held = asyncio.create_task(upload(http, web, JPEG_HEAD + f"hold {mark}".encode()))
    await until(mark.exists, "the picture is being decoded")
    held.cancel()
    assert (await upload(http, web, JPEG_HEAD + b"any", "o-2"))[0] == 201
    await until(lambda: web.context.uploads.held_bytes == 0, "its share was given back")
