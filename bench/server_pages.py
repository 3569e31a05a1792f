"""The pages of docs/servers on the real servers of the package registry: `make server-pages`.

Each page's own packages, app, command and settings are taken as they stand there, but for the port; one picture is
ordered.  cog's page is run by the test suite; ComfyUI is in no registry, see `bench.server_cases`.  `--only NAME` takes
one page, `--folder` keeps the environments.  The exit status is 1 when a page's order is not made.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from actors.providers.base import Done
from bench.real_servers import Kind, ended, install, running
from tests.support.fakes.openai_service import OpenAi
from tests.support.providers.adapters import Adapters
from tests.support.providers.server_pages import ServerPage, server_pages
from tests.support.repository import ROOT

# The file that a page's program is, and where the server says that it is ready.
FILES = {"gradio": "app.py", "litserve": "server.py", "bentoml": "service.py", "litellm": "config.yaml"}
READY = {"gradio": "/config", "litserve": "/health", "bentoml": "/readyz", "litellm": "/health/liveliness"}


def main() -> int:
    """The exit status."""
    asked = argparse.ArgumentParser(prog="bench.server_pages", description=__doc__)
    asked.add_argument("--only", choices=sorted(FILES))
    asked.add_argument("--folder", type=Path)
    given = asked.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="darkroom-server-pages-"))
    folder.mkdir(exist_ok=True)
    pages = [page for page in server_pages(ROOT) if page.name in FILES and given.only in (None, page.name)]
    try:
        good = [_holds(page, folder / page.name) for page in pages]
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(good) else 1


def _holds(page: ServerPage, home: Path) -> bool:
    first, start = (shlex.split(line) for line in page.block("sh").strip().splitlines())
    assert first[:2] == ["pip", "install"]
    install(home, tuple(first[2:]))
    (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)", page.block("toml")))
    program = page.block("yaml" if page.name == "litellm" else "python")
    with OpenAi() as upstream:
        # The page's port is a free one here, which the server is told.
        program = program.replace(f"={port}", '=int(__import__("os").environ["PORT"])')
        (home / FILES[page.name]).write_text(program, encoding="utf-8")
        command = tuple("PORT" if part == port else part for part in start)
        environment = {
            "OPENAI_BASE_URL": f"{upstream.url}/v1", "OPENAI_API_KEY": "sk-upstream",
            "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "BENTOML_DO_NOT_TRACK": "True",
        }  # fmt: skip
        kind = Kind((), "", "", command, READY[page.name], (), environment)
        with running(home, kind) as (url, _):
            return asyncio.run(_order(page, url))


async def _order(page: ServerPage, url: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        async with Adapters(Path(folder)) as adapters:
            provider = adapters.open(page.provider(url, adapters.folder))
            said = await ended(adapters, provider, adapters.job())
    good = isinstance(said, Done)
    print(f"{'ok   ' if good else 'WRONG'} {page.name:9} {'' if good else said}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
