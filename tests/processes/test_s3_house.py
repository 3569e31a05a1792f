"""The system on an S3 store: uploads, links and results, with the store away, silent or slow."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from config.settings import Settings
from config.storage import S3
from supervisor.cli.doctor.doctor import examine
from supervisor.objects.disk_space import WAITING_FOR_THE_STORE
from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web
from tests.support.providers.made_files_provider import MP4
from tests.support.running_system import running_system
from tests.support.servers.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.waiting import eventually

LARGE = (1200, 900)  # of noise: larger than any buffer between the store and the reader


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    server.make_bucket("pictures")
    yield server
    server.stop()


@pytest.fixture
async def web(tmp_path: Path, s3: S3Server) -> AsyncIterator[Web]:
    options = s3.options()
    async with running_web(tmp_path, storage_url=f"s3://pictures/{tmp_path.name}", s3=options) as running:
        yield running


async def uploaded(http: aiohttp.ClientSession, web: Web, data: bytes | None = None) -> dict[str, Any]:
    headers = bearer("o-1") | {"Content-Type": "image/png"}
    async with http.post(
        f"{web.url}/v1/images", data=data or picture_bytes("PNG"), headers=headers
    ) as answer:
        assert answer.status == 201, await answer.text()
        return dict(await answer.json())


def noise() -> bytes:
    from PIL import Image

    size = LARGE[0] * LARGE[1] * 3
    image = Image.frombytes("RGB", LARGE, os.urandom(size))
    import io

    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


async def test_a_film_is_an_object_too_and_its_link_shows_parts_of_it_and_no_altered_link_any(
    web: Web, http: aiohttp.ClientSession, s3: S3Server, tmp_path: Path
) -> None:
    film = MP4 + os.urandom(700_000)
    sent = {**bearer("o-1"), "Content-Type": "application/octet-stream"}
    async with http.post(f"{web.url}/v1/files", data=film, headers=sent) as answer:
        assert answer.status == 201, await answer.text()
        told = await answer.json()
    assert (told["media_type"], told["bytes"]) == ("video/mp4", len(film))
    [name] = [key for key in s3.keys("pictures") if key.startswith(f"{tmp_path.name}/uploads/")]
    assert name.endswith(f"{told['id']}.mp4") and not (web.settings.data_dir / "files").exists()
    async with http.get(web.url + told["url"], headers={"Range": "bytes=-1000"}) as answer:
        assert (answer.status, await answer.read()) == (206, film[-1000:])
        assert answer.content_type == "video/mp4"
    async with http.get(web.url + told["url"]) as answer:
        assert await answer.read() == film
    for altered in (
        told["url"].replace(".mp4", ".mov"),
        told["url"][:-1],
        told["url"].replace("exp=", "exp=1"),
    ):
        async with http.get(web.url + altered) as answer:
            assert answer.status == 403, altered


async def test_an_upload_is_an_object_and_its_link_passes_it_through(
    web: Web, http: aiohttp.ClientSession, s3: S3Server, tmp_path: Path
) -> None:
    image = await uploaded(http, web, noise())
    (name,) = [key for key in s3.keys("pictures") if key.startswith(f"{tmp_path.name}/uploads/")]
    assert image["url"].startswith(f"/files/{name.removeprefix(f'{tmp_path.name}/')}?exp=")
    assert not (web.settings.data_dir / "files").exists()
    async with http.get(web.url + image["url"], allow_redirects=False) as answer:
        data = await answer.read()
        assert answer.status == 200 and len(data) == image["bytes"] > 500_000
        assert answer.content_type == "image/jpeg" and answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "immutable" in answer.headers["Cache-Control"]
    async with http.head(web.url + image["url"]) as answer:
        assert answer.status == 200 and answer.content_length == image["bytes"]
    async with http.get(web.url + image["url"], headers={"Range": "bytes=0-1"}) as answer:
        assert answer.status == 206 and await answer.read() == data[:2]
        assert answer.headers["Content-Range"] == f"bytes 0-1/{len(data)}"
    async with http.get(web.url + image["url"], headers={"Range": f"bytes={len(data)}-"}) as answer:
        assert answer.status == 416 and answer.content_type == "application/problem+json"
        assert answer.headers["Content-Range"] == f"bytes */{len(data)}"


async def test_a_link_that_was_altered_is_403_and_one_to_nothing_404(
    web: Web, http: aiohttp.ClientSession
) -> None:
    image = await uploaded(http, web)
    async with http.get(web.url + image["url"] + "x") as answer:
        assert answer.status == 403
    web.context.files.delete(image["url"].partition("?")[0].removeprefix("/files/"))
    async with http.get(web.url + image["url"]) as answer:
        assert answer.status == 404


async def test_a_silent_store_delays_only_requests_for_files(
    web: Web, http: aiohttp.ClientSession, s3: S3Server
) -> None:
    image = await uploaded(http, web)
    with s3.frozen():
        waiting = [asyncio.ensure_future(http.get(web.url + image["url"])) for _ in range(40)]
        for _ in range(5):
            async with http.get(f"{web.url}/v1/works", headers=bearer("o-1")) as answer:
                assert answer.status == 200
        assert not any(each.done() for each in waiting)
    for each in asyncio.as_completed(waiting):
        answer = await each
        assert answer.status == 200 and len(await answer.read()) == image["bytes"]
        answer.release()


async def test_web_starts_and_serves_without_its_store(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    gone = S3Server()
    gone.stop()
    async with running_web(tmp_path, storage_url="s3://pictures", s3=gone.options()) as web:
        async with http.get(f"{web.url}/readyz") as answer:
            assert answer.status == 200
        headers = bearer("o-1") | {"Content-Type": "image/png"}
        async with http.post(f"{web.url}/v1/images", data=picture_bytes("PNG"), headers=headers) as answer:
            problem = await answer.json()
            assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
            assert "file store" in problem["detail"] and SECRET_KEY not in json.dumps(problem)
        assert web.sql("SELECT count(*) FROM image") == [(0,)]
        async with http.get(web.url + web.context.links.link("uploads/a.jpg")) as answer:
            assert answer.status == 503


def options(s3: S3Server, gate: str = "/") -> dict[str, str]:
    return {
        "STORAGE_URL": "s3://pictures/house",
        "S3__ENDPOINT_URL": s3.address,
        "S3__ACCESS_KEY_ID": ACCESS_KEY,
        "S3__SECRET_ACCESS_KEY": SECRET_KEY,
        "TASKS__photography__PROVIDER": "instant",
        "PROVIDERS__instant": json.dumps(
            {
                "kind": "python",
                "options": {
                    "class": "tests.support.providers.instant_provider:InstantProvider",
                    "gate": gate,
                },
            }
        ),
    }


FULL = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive threshold.</Message>
<Resource>/pictures</Resource><RequestId>1</RequestId></Error>"""


class FullBucket(http.server.BaseHTTPRequestHandler):
    """A bucket that is read and takes nothing more, as MinIO says it."""

    def do_GET(self) -> None:
        self._say(200, '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>')

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(507, FULL)

    def _say(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def full_bucket() -> Iterator[S3]:
    """The settings of a bucket without room."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FullBucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield S3(endpoint_url=address, access_key_id=ACCESS_KEY, secret_access_key=SecretStr(SECRET_KEY))
        server.shutdown()


async def test_a_full_store_is_reported_to_operators(
    tmp_path: Path, http: aiohttp.ClientSession, full_bucket: S3
) -> None:
    async with running_web(tmp_path, storage_url="s3://pictures", s3=full_bucket) as web:

        async def told() -> dict[str, str]:
            async with http.get(f"{web.url}/v1/ops/overview", headers=bearer("o-1", "operator")) as answer:
                return {each["code"]: each["text"] for each in (await answer.json())["troubles"]}

        assert "store_away" not in await told()
        headers = bearer("o-1") | {"Content-Type": "image/png"}
        async with http.post(f"{web.url}/v1/images", data=picture_bytes("PNG"), headers=headers) as answer:
            assert answer.status == 503
        assert "is full (XMinioStorageFull); free some space there" in (await told())["store_away"]
        (finding,) = [each for each in examine(web.settings) if each.part == "storage"]
        assert not finding.well and "is full (XMinioStorageFull)" in finding.sentence


def test_a_finished_picture_waits_for_a_store_that_is_away_and_is_not_made_again(tmp_path: Path) -> None:
    s3 = S3Server()
    s3.make_bucket("pictures")
    gate = tmp_path / "gate"
    with running_system(log=tmp_path / "log", **options(s3, str(gate))) as house:
        task_id = house.order("photography")
        eventually(
            "the service is at work", lambda: house.one("SELECT 1 FROM task_queue WHERE stage = 'making'")
        )
        s3.stop()
        gate.touch()
        waits = f"SELECT 1 FROM task_queue WHERE stage = '{WAITING_FOR_THE_STORE}'"
        eventually("the picture waits", lambda: house.one(waits))
        assert house.one("SELECT status, attempt FROM task_queue") == ("processing", 1)
        s3 = S3Server(s3.port)  # it comes back, and has forgotten everything
        s3.make_bucket("pictures")
        eventually(
            "the task is completed", lambda: house.one("SELECT 1 FROM task_queue WHERE status = 'completed'")
        )
        assert house.one("SELECT attempt, failures FROM task_queue") == (1, 0)
        (key,) = s3.keys("pictures")
        assert key.startswith(f"house/results/{task_id}/")
        url = house.ask(f"/v1/tasks/{task_id}")["result"]["images"][0]["url"]
        with urllib.request.urlopen(house.url + url) as answer:
            assert answer.read()[:2] == b"\xff\xd8"
        assert SECRET_KEY not in house.said()
    s3.stop()


def test_settings_of_the_store_are_read_from_the_environment(s3: S3Server) -> None:
    from config.load_settings import load_settings

    given = {f"DARKROOM_{name}": value for name, value in options(s3).items()}
    settings: Settings = load_settings({"DARKROOM_CONFIG": "", **given})
    assert settings.s3 == s3.options(region="") and SECRET_KEY not in repr(settings)
