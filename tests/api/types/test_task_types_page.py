"""docs/task-types.md and its Chinese twin: their declarations are valid, their orders are accepted at their prices."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config.load_settings import load_settings
from tests.support.command_line import darkroom
from tests.support.houses.web_server import bearer, running_web

DOCS = Path(__file__).parents[3] / "docs"
PAGES = [DOCS / f"task-types{language}.md" for language in ("", ".zh-CN")]
ATELIER = '[providers.atelier]\nkind = "http"\nurl = "http://127.0.0.1:9"\n[providers.atelier.submit]\nurl = "/make"\n'


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def _declared(page: Path, folder: Path, *, price: bool = False) -> dict[str, str]:
    """The environment of the page's settings: its declaration, and its price in place of the plain one."""
    poster, priced, _ = _blocks(page, "toml")
    if price:
        poster = (
            "\n".join(line for line in poster.splitlines() if not line.startswith("cost_credits"))
            + "\n"
            + priced
        )
    (folder / "darkroom.toml").write_text(poster + "\n" + ATELIER, encoding="utf-8")
    (folder / "poster.schema.json").write_text(_blocks(page, "json")[0], encoding="utf-8")
    return {"DARKROOM_CONFIG": str(folder / "darkroom.toml")}


def _ordered(page: Path) -> Any:
    """The body that the page's `curl` sends."""
    words = shlex.split(_blocks(page, "sh")[1].replace("\\\n", " "))
    return json.loads(words[words.index("-d") + 1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_types_declared_on_the_page_can_be_ordered_at_the_stated_prices(
    page: Path, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    told = load_settings(_declared(page, tmp_path, price=True))
    settings = {"tasks": told.tasks, "providers": told.providers}
    async with running_web(tmp_path / "data", **settings) as web:
        body, headers = _ordered(page), bearer("o-1")
        async with http.post(f"{web.url}/v1/tasks?estimate=true", json=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["credits"]) == (200, 5)
        async with http.post(f"{web.url}/v1/tasks", json=body, headers=headers) as answer:
            assert answer.status == 202
        async with http.get(f"{web.url}/v1/credits", headers=headers) as answer:
            assert (await answer.json())["balance"] == 95
        body["params"]["parameters"]["quality"] = "uhd"
        async with http.post(f"{web.url}/v1/tasks", json=body, headers=headers) as answer:
            assert answer.status == 422
            assert (await answer.json())["errors"][0]["pointer"] == "/params/parameters/quality"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_page_know_the_type(page: Path, tmp_path: Path) -> None:
    environ = _declared(page, tmp_path)
    assert "poster" in darkroom(tmp_path, "types", **environ).stdout
    said = darkroom(tmp_path, "submit", "poster", "--help", **environ).stdout
    for option in re.findall(r"--\w+", _blocks(page, "sh")[0]):
        assert option in said


def test_both_pages_show_the_same_settings_and_orders() -> None:
    english, chinese = PAGES
    for language in ("json", "sh"):
        assert _blocks(english, language) == _blocks(chinese, language)
    tables = [[tomllib.loads(block) for block in _blocks(page, "toml")] for page in PAGES]
    assert tables[0] == tables[1]
