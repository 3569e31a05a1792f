"""Films, sound and data from an `http` service: found by the settings, streamed to the disk."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.files.scratch import Scratch
from actors.providers.base import Done, Job, ProviderError, ResultLost
from actors.providers.common.answers import Answer, Rules, others_in
from actors.providers.common.paths import parse_path
from actors.providers.http.provider import HttpProvider
from actors.providers.http.service import read_service
from actors.providers.provider_context import ProviderContext
from config.settings import Settings
from supervisor.objects.local_files import LocalFiles
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.security.file_links import LinkSigner
from tests.support.fakes.fake_ai_service import FakeAiService, Reply
from tests.support.pictures import picture
from tests.support.providers.made_files_provider import MP4

MP3 = b"ID3\x03\0\0\0\0\0\x0a" + b"\0" * 60
Opener = Callable[..., HttpProvider]


@pytest.fixture(scope="module")
def service() -> Iterator[FakeAiService]:
    with FakeAiService() as fake:
        yield fake


@pytest.fixture
async def open_provider(tmp_path: Path, service: FakeAiService) -> AsyncIterator[Opener]:
    opened: list[HttpProvider] = []
    processes = ImageProcesses(1)

    def make(**changes: Any) -> HttpProvider:
        provider = {
            "kind": "http",
            "url": service.url,
            "submit": {"url": "/make", "body": {"prompt": "${params.prompt}"}},
            "allow_private_addresses": True,
            **changes,
        }
        settings = Settings(data_dir=tmp_path, providers={"ai": provider})  # type: ignore[dict-item]
        context = ProviderContext(processes, LocalFiles(tmp_path / "files"), LinkSigner("secret", 3600))
        opened.append(HttpProvider(read_service("ai", settings.providers["ai"], settings), context))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()
    await processes.close()


async def _made(provider: HttpProvider, tmp_path: Path) -> Done:
    folder = tmp_path / "job"
    folder.mkdir(exist_ok=True)
    order = Job(
        task_id="t-1", type="film", params={"prompt": "a fair"}, inputs=(), pictures=(0,), count=1, seed=7,
        scratch=Scratch(folder), ai_timeout_seconds=20.0, reference="t-1.1.1.0",
    )  # fmt: skip
    answer = await provider.submit(order, lambda percent, stage: None)
    assert isinstance(answer, Done)
    return answer


async def test_a_film_by_its_address_and_data_come_with_the_answer(
    open_provider: Opener, service: FakeAiService, tmp_path: Path
) -> None:
    film = MP4 + b"\0" * 3_000_000
    service.pictures["film.mp4"] = film
    service.reply = lambda asked: Reply(
        document={"video": {"url": f"{service.url}/pictures/film.mp4?x=1"}, "meta": {"seconds": 4}}
    )
    done = await _made(open_provider(files=["$.video"], data="$.meta"), tmp_path)
    [file] = done.files
    assert (file.name, file.path.read_bytes() == film) == ("film.mp4", True)
    assert done.data == {"seconds": 4} and done.images == () and not done.is_empty


async def test_pictures_files_and_data_may_stand_in_one_answer(
    open_provider: Opener, service: FakeAiService, tmp_path: Path
) -> None:
    sound = "data:audio/mpeg;base64," + base64.b64encode(MP3).decode()
    inline = base64.b64encode(picture()).decode()
    service.reply = lambda asked: Reply(document={"image": inline, "sound": sound, "words": ["a", "b"]})
    provider = open_provider(result=["$.image"], files=["$.sound"], data="$.words")
    done = await _made(provider, tmp_path)
    assert len(done.images) == 1 and done.files[0].path.read_bytes() == MP3 and done.data == ["a", "b"]


async def test_a_body_that_is_sound_needs_no_path(
    open_provider: Opener, service: FakeAiService, tmp_path: Path
) -> None:
    service.reply = lambda asked: Reply(body=MP3, headers={"Content-Type": "audio/mpeg"})
    done = await _made(open_provider(), tmp_path)
    assert done.files[0].path.read_bytes() == MP3


async def test_files_that_can_not_be_had_are_a_lost_result_and_none_is_an_error(
    open_provider: Opener, service: FakeAiService, tmp_path: Path
) -> None:
    service.reply = lambda asked: Reply(document={"video": f"{service.url}/pictures/gone.mp4"})
    with pytest.raises(ResultLost, match="could not be fetched"):
        await _made(open_provider(files=["$.video"]), tmp_path)
    service.reply = lambda asked: Reply(document={"video": None})
    with pytest.raises(ProviderError, match="no picture"):
        await _made(open_provider(files=["$.video"]), tmp_path)


async def test_a_file_in_ones_own_network_is_not_fetched_unless_that_is_allowed(
    open_provider: Opener, service: FakeAiService, tmp_path: Path
) -> None:
    service.pictures["film.mp4"] = MP4
    service.reply = lambda asked: Reply(document={"video": f"{service.url}/pictures/film.mp4"})
    with pytest.raises(ResultLost):
        await _made(open_provider(files=["$.video"], allow_private_addresses=False), tmp_path)


def test_false_0_and_empty_are_data_and_null_is_none() -> None:
    rules = Rules(data=parse_path("$.data"))
    for data in (False, 0, "", [], {}):
        assert others_in(Answer(200, {}, b"{}", {"data": data}), rules).data == data
        assert others_in(Answer(200, {}, b"{}", {"data": data}), rules).is_some
    assert not others_in(Answer(200, {}, b"{}", {"data": None}), rules).is_some
