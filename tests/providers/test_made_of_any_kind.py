"""Films, sound, files and JSON from ComfyUI, Replicate, cog and Gradio: what the type gives back, by its bytes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.providers.base import Accepted, Done, Failed, ResultLost, Running, Transient
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.fakes.fake_ai_service import FakeAiService, Reply
from tests.support.fakes.gradio_app import GradioApp
from tests.support.fakes.replicate_service import Replicate
from tests.support.pictures import picture
from tests.support.providers.adapters import Adapters, colour_of, error_of
from tests.support.providers.comfyui import settings_of
from tests.support.providers.made_files_provider import MP4
from tests.support.providers.provider_settings import replicate_settings

FILM = MP4 + b"\0" * 3_000_000
MP3 = b"ID3\x03\0\0\0\0\0\x0a" + b"\0" * 60
SOUND = "data:audio/mpeg;base64," + base64.b64encode(MP3).decode()


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


def _kinds(done: Any) -> dict[str, bytes]:
    """{name: first bytes} of its files."""
    assert isinstance(done, Done), done
    return {each.name: each.path.read_bytes()[:16] for each in done.files}


async def _comfy(comfy: ComfyUi, adapters: Adapters, nodes: Any, **job: Any) -> Done | Failed | Running | Any:
    provider = adapters.open(settings_of(comfy, adapters.folder) | {"limits": {"file_bytes": 4_000_000}})
    remote = await adapters.submit(provider)
    assert isinstance(remote, Accepted)
    comfy.start()
    comfy.finish_with(nodes)
    return await adapters.poll(provider, remote, adapters.job(inputs=(), input_keys=(), **job))


def _file(name: str, type_: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": "", "type": type_}


NODES = {
    "4": {"gifs": [_file("film.mp4") | {"format": "video/h264-mp4"}], "text": ["no file"]},
    "5": {"images": [_file("red.png"), _file("blue.png")], "animated": [False]},
    "6": {"audio": [_file("voice.mp3")]},
    "7": {"images": [_file("preview.png", "temp")]},
}


@pytest.mark.parametrize(
    ("outputs", "files", "images"),
    [
        (("videos",), {"film.mp4"}, 0),
        (("images", "videos"), {"film.mp4"}, 1),
        (("audio",), {"voice.mp3"}, 0),
        (("images", "videos", "audio"), {"film.mp4", "voice.mp3"}, 1),
        (("files",), {"red.png", "blue.png"}, 0),
        (("images",), set(), 1),
    ],
)
async def test_nodes_of_comfyui_give_what_the_type_gives_back(
    adapters: Adapters, outputs: tuple[str, ...], files: set[str], images: int
) -> None:
    with ComfyUi() as comfy:
        comfy.pictures |= {"film.mp4": FILM, "voice.mp3": MP3}
        done = await _comfy(comfy, adapters, NODES, outputs=outputs)
        assert set(_kinds(done)) == files
        assert isinstance(done, Done) and len(done.images) == images
        assert all(colour_of(image) == "red" for image in done.images)
        if "videos" in outputs:
            assert next(each for each in done.files if each.name == "film.mp4").path.read_bytes() == FILM


async def test_a_film_above_the_limit_is_a_lost_result_and_one_not_shown_is_asked_for_again(
    adapters: Adapters,
) -> None:
    with ComfyUi() as comfy:
        comfy.pictures["film.mp4"] = FILM + b"\0" * 2_000_000
        said = await _comfy(comfy, adapters, {"4": {"gifs": [_file("film.mp4")]}}, outputs=("videos",))
        assert type(error_of(said)) is ResultLost
        said = await _comfy(comfy, adapters, {"4": {"gifs": [_file("gone.mp4")]}}, outputs=("videos",))
        assert isinstance(said, Transient), "the job is done, and nothing is ordered again"
        said = await _comfy(comfy, adapters, {"5": {"images": [_file("red.png")]}}, outputs=("videos",))
        assert "made nothing of what this type gives back (videos)" in error_of(said).message


async def test_lists_of_replicate_hold_films_sound_and_data_uris(adapters: Adapters) -> None:
    with Replicate() as service:
        service.pictures["film.mp4"] = FILM
        service.more = {"output": [f"{service.url}/pictures/film.mp4", SOUND, service.picture_url()]}
        await _are_told_apart(adapters, replicate_settings(service, allow_private_addresses=True))


async def test_lists_of_cog_hold_them_too(adapters: Adapters) -> None:
    with FakeAiService() as service:
        service.pictures |= {"film.mp4": FILM, "red.png": picture("red")}
        output = [f"{service.url}/pictures/film.mp4", SOUND, f"{service.url}/pictures/red.png"]
        service.reply = lambda asked: Reply(document={"status": "succeeded", "output": output})
        options = {"dialect": "cog", "input": {"prompt": "${params.prompt}"}}
        settings = {
            "kind": "replicate",
            "url": service.url,
            "options": options,
            "allow_private_addresses": True,
        }
        await _are_told_apart(adapters, settings)


async def _are_told_apart(adapters: Adapters, settings: dict[str, Any]) -> None:
    provider = adapters.open(settings)
    done = await adapters.ended(provider, adapters.job(outputs=("images", "videos", "audio")))
    assert isinstance(done, Done) and len(done.images) == 1
    assert [each.path.read_bytes() for each in done.files] == [FILM, MP3]
    done = await adapters.ended(provider, adapters.job(outputs=("audio",)))
    assert isinstance(done, Done) and not done.images
    assert [each.path.read_bytes() for each in done.files] == [MP3]


async def test_the_output_of_a_prediction_is_its_json_where_the_type_says_so(adapters: Adapters) -> None:
    with Replicate() as service:
        service.more = {"output": {"caption": "a fair", "score": 0.5}}
        settings = replicate_settings(service, allow_private_addresses=True)
        done = await adapters.ended(adapters.open(settings), adapters.job(outputs=("json",)))
        assert isinstance(done, Done) and done.data == {"caption": "a fair", "score": 0.5} and not done.images
        done = await adapters.ended(
            adapters.open(settings | {"data": "$.output.caption"}), adapters.job(outputs=("json",))
        )
        assert isinstance(done, Done) and done.data == "a fair"
        service.more = {"output": ["Once ", "upon"]}
        done = await adapters.ended(adapters.open(settings), adapters.job(outputs=("json",)))
        assert isinstance(done, Done) and done.data == ["Once ", "upon"]


async def test_gradio_gives_films_and_json(adapters: Adapters) -> None:
    with GradioApp() as app:
        app.pictures["film.mp4"] = FILM
        film = {"path": "film.mp4", "url": f"{app.url}/gradio_api/file=film.mp4", "orig_name": "a fair.mp4"}
        app.output = [{"video": film, "subtitles": None}, {"score": 0.5}]
        settings = {
            "kind": "gradio",
            "url": app.url,
            "options": {"endpoint": "/invert", "input": {"image": "${input.0.file}"}},
        }
        done = await adapters.submit(
            adapters.open(settings | {"data": "$.data[1]"}), adapters.job(outputs=("videos", "json"))
        )
        assert isinstance(done, Done) and done.data == {"score": 0.5}
        assert [(each.name, each.path.read_bytes()) for each in done.files] == [("a fair.mp4", FILM)]
        app.output = [{"score": 0.5}]
        done = await adapters.submit(adapters.open(settings), adapters.job(outputs=("json",)))
        assert isinstance(done, Done) and done.data == [{"score": 0.5}]
