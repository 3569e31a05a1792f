"""POST /v1/files, and orders that name films and sound: known by their bytes, their user's own, given to the worker."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from actors.attempts.inputs import fetch_inputs, input_keys
from actors.files.scratch import Scratch
from actors.providers.base import InvalidInput
from config.settings import Settings
from supervisor.core.rescue import Budget
from supervisor.objects.local_files import LocalFiles
from supervisor.store.queue import workers
from tests.conftest import dispatch
from tests.support.databases import KINDS
from tests.support.houses.web_server import bearer, picture_bytes, running_web
from tests.support.providers.made_files_provider import MP4

MP3 = b"ID3\x03\0\0\0\0\0\x0a" + b"\0" * 60
DUB = {"inputs": {"videos": [1, 1], "audio": [0, 2]}, "outputs": ["videos"]}


@pytest.fixture(params=KINDS)
async def web(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    limits = {"video_bytes": 200_000, "audio_bytes": 100_000, "file_bytes": 50_000}
    async with running_web(tmp_path, request.param, tasks={"dub": DUB}, limits=limits) as web:
        yield web


async def _sent(http: aiohttp.ClientSession, web: Any, data: Any, user: str = "o-1", **headers: str) -> Any:
    async with http.post(f"{web.url}/v1/files", data=data, headers=bearer(user) | headers) as answer:
        return answer.status, await answer.json()


def _form(content: bytes, name: str) -> aiohttp.FormData:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("file", content, filename=name, content_type="application/octet-stream")
    return form


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (MP4, "video/mp4"),
        (MP3, "audio/mpeg"),
        (b'{"a": 1}', "application/json"),
        ("é words".encode(), "text/plain"),
    ],
)
async def test_a_file_is_taken_raw_and_in_a_form_and_comes_back_as_it_was(
    web: Any, http: aiohttp.ClientSession, content: bytes, media_type: str
) -> None:
    for data, name in ((content, None), (_form(content, "../a film.x"), "a film.x")):
        status, told = await _sent(
            http, web, data, **({} if name else {"Content-Type": "application/octet-stream"})
        )
        assert (status, told["media_type"], told["bytes"]) == (201, media_type, len(content)), told
        assert name is None or told["name"] == name
        async with http.get(web.url + told["url"]) as answer:
            assert await answer.read() == content and answer.content_type == media_type
            shown = "inline" if media_type.split("/")[0] in ("video", "audio") else "attachment"
            assert answer.headers["Content-Disposition"].startswith(shown)


@pytest.mark.parametrize("name", ["海报 über.mp4", "🎂.mp4"])
async def test_a_name_in_any_language_comes_back_as_it_was(
    web: Any, http: aiohttp.ClientSession, name: str
) -> None:
    status, told = await _sent(http, web, _form(MP4, name))
    assert (status, told["name"]) == (201, name)


async def test_a_picture_goes_the_way_of_pictures(web: Any, http: aiohttp.ClientSession) -> None:
    status, told = await _sent(http, web, _form(picture_bytes(), "me.jpg"))
    assert status == 201 and told["media_type"].startswith("image/") and told["width"] > 0
    assert told["name"] == "me.jpg"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<!doctype html><script>1</script>", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 100, 415),
        (MP4 + b"\0" * 200_000, 413),
        (b"x" * 60_000, 413),
    ],
)
async def test_a_refused_upload_leaves_nothing(
    web: Any, http: aiohttp.ClientSession, content: bytes, status: int
) -> None:
    assert (await _sent(http, web, _form(content, "a.bin")))[0] == status
    assert web.sql("SELECT count(*) FROM image") == [(0,)]


async def test_an_order_names_its_files_and_the_worker_is_given_them_in_order(
    web: Any, http: aiohttp.ClientSession, tmp_path: Any
) -> None:
    film = (await _sent(http, web, _form(MP4, "film.mp4")))[1]["id"]
    sound = (await _sent(http, web, _form(MP3, "voice.mp3")))[1]["id"]
    foreign = (await _sent(http, web, _form(MP3, "voice.mp3"), user="o-2"))[1]["id"]

    async def ordered(**params: Any) -> Any:
        body = {"type": "dub", "params": params}
        async with http.post(f"{web.url}/v1/tasks", json=body, headers=bearer("o-1")) as answer:
            return answer.status, await answer.json()

    for params, pointer in (
        ({}, "/params/videos"),
        ({"videos": [film, film]}, "/params/videos"),
        ({"videos": [film], "audio": [foreign]}, "/params/audio"),
        ({"videos": [film], "images": [film]}, "/params/images"),
        ({"videos": ["a b"]}, "/params/videos/0"),
    ):
        status, problem = await ordered(**params)
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer), params
    status, _ = await ordered(videos=[film], audio=[sound])
    assert status == 202
    assert web.sql("SELECT count(*) FROM image_use") == [(2,)]
    await web.database.write_async(lambda tx: workers.register(tx, "w-1", host="here", pid=1, slots=10))
    (claim,) = await web.database.write_async(lambda tx: dispatch(tx, web.settings))
    worker: Any = SimpleNamespace(settings=web.settings, files=LocalFiles(tmp_path / "files"))
    paths = await fetch_inputs(worker, claim, Scratch(tmp_path / "job"))
    assert [path.read_bytes() for path in paths] == [MP4, MP3]
    assert all(input_keys(claim)) and json.dumps(claim.params)
    assert isinstance(claim.budget, Budget)


async def test_an_address_that_leads_to_another_kind_of_file_ends_its_order(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind an address is known when a worker has fetched it, and is not sent to a service."""

    async def fetched(path: Any, address: str, **_: Any) -> None:
        path.write_bytes(MP3 if "sound" in address else MP4)

    monkeypatch.setattr("actors.net.fetch.fetch_public_file", fetched)
    worker: Any = SimpleNamespace(settings=Settings())

    async def inputs(**params: Any) -> list[bytes]:
        (tmp_path / "job").mkdir(exist_ok=True)
        claim: Any = SimpleNamespace(params=params, user="o-1", image_keys={})
        return [each.read_bytes() for each in await fetch_inputs(worker, claim, Scratch(tmp_path / "job"))]

    film, sound = "https://example.com/film", "https://example.com/sound"
    assert await inputs(videos=[film], audio=[sound], files=[film]) == [MP4, MP3, MP4]
    with pytest.raises(InvalidInput, match="What lies behind input 2 is none of videos") as refused:
        await inputs(videos=[film, sound])
    assert refused.value.code == "image_unusable" and not refused.value.retryable
