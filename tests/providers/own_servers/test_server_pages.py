"""The pages of docs/servers: what they tell people to write is run as it stands there.

cog is the real server; the others are servers that answer as the real ones were seen to, or as their documentation
says.  `make server-pages` runs the pages' own apps on the real servers of the package registry.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.providers.base import Accepted
from config.load_settings import load_settings
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.fakes.fake_ai_service import FakeAiService, Reply
from tests.support.fakes.gradio_app import GradioApp
from tests.support.fakes.openai_service import OpenAi
from tests.support.pictures import picture
from tests.support.providers.adapters import Adapters, images_of
from tests.support.providers.server_pages import ServerPage, server_pages
from tests.support.repository import ROOT
from tests.support.servers.cog_server import CogServer

PAGES = server_pages(ROOT)
BY_NAME = {page.name: page for page in PAGES}


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


def test_there_is_a_page_for_each_server_and_the_index_links_them_all() -> None:
    assert set(BY_NAME) == {
        "a1111", "bentoml", "cog", "comfyui", "gradio", "litellm", "litserve", "triton", "vllm-omni",
    }  # fmt: skip
    for index in ("ai-services.md", "ai-services.zh-CN.md"):
        text = (ROOT / "docs" / index).read_text(encoding="utf-8")
        assert all(f"(servers/{name}.md)" in text for name in BY_NAME), index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_of_a_page_start_and_its_programs_compile(page: ServerPage, tmp_path: Path) -> None:
    file = tmp_path / "darkroom.toml"
    file.write_text(page.block("toml"), encoding="utf-8")
    settings = load_settings({"DARKROOM_CONFIG": str(file), "DARKROOM_DATA_DIR": str(tmp_path)})
    assert settings.tasks["portrait"].provider in settings.providers
    for program in page.blocks("python"):
        compile(program, page.name, "exec")
    for document in page.blocks("json"):
        json.loads(document)


def answering(name: str) -> contextlib.AbstractContextManager[Any]:
    """A server that answers as this one does."""
    data = picture("red")
    encoded = base64.b64encode(data).decode()
    match name:
        case "comfyui":
            return ComfyUi()
        case "gradio":
            return GradioApp()
        case "litellm" | "vllm-omni":
            return OpenAi()
        case "bentoml":
            return FakeAiService(lambda asked: Reply(body=data, headers={"Content-Type": "image/png"}))
        case "a1111":
            return FakeAiService(
                lambda asked: Reply(document={"images": [encoded], "parameters": {}, "info": "{}"})
            )
        case _:
            return FakeAiService(lambda asked: Reply(document={"image": encoded, "model_name": "portrait"}))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cog"], ids=lambda page: page.name)
async def test_an_order_by_the_settings_of_a_page_is_made(page: ServerPage, adapters: Adapters) -> None:
    with answering(page.name) as server:
        provider = adapters.open(page.provider(server.url, adapters.folder))
        said = await adapters.submit(provider)
        if isinstance(server, ComfyUi):
            assert isinstance(said, Accepted), said
            sent = server.graphs[server.start()]
            assert sent["1"]["inputs"]["image"] in server.uploads, "the photo was uploaded"
            server.finish_with(
                {"3": {"images": [{"filename": "red.png", "subfolder": "", "type": "output"}]}}
            )
            said = await adapters.poll(provider, said)
        (made,) = images_of(said)
        assert made.width > 0
        if isinstance(server, FakeAiService):
            (asked,) = server.asked
            body = asked.document or {name: value for name, value, *_ in asked.fields}
            told = tomllib.loads(page.block("toml"))["providers"]
            assert set(body) == set(next(iter(told.values()))["submit"]["body"]), "nothing is left out"


@pytest.fixture
def cog(tmp_path: Path) -> Iterator[CogServer]:
    with CogServer(tmp_path / "cog", BY_NAME["cog"].block("python")) as server:
        yield server


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform != "linux", reason="cog has wheels for Linux alone")
async def test_the_page_of_cog_holds_with_the_real_server_and_the_pages_own_model(
    cog: CogServer, adapters: Adapters
) -> None:
    page = BY_NAME["cog"]
    assert len(images_of(await adapters.ended(adapters.open(page.provider(cog.url, adapters.folder))))) == 1
