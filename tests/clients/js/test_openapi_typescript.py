"""Types that openapi-typescript makes of `/openapi.json` hold, and order through openapi-fetch at a real server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.clients.npm_package import APP, FRONT_ENDS, GENERATOR, run
from tests.support.houses.door_shop import DoorShop, door_shop
from tests.support.houses.web_server import picture_bytes
from tests.support.npm_packages import NODE, NPM, npm_packages

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node"),
]

USER = "o-1"
STRICT = {
    "strict": True, "noEmit": True, "target": "ES2022", "module": "NodeNext", "moduleResolution": "nodenext",
    "lib": ["ES2022", "DOM", "DOM.Iterable"], "noUncheckedIndexedAccess": True, "exactOptionalPropertyTypes": True,
}  # fmt: skip


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[DoorShop]:
    async with door_shop(tmp_path / "shop", tasks={"poster": {"inputs": {"images": [0, 4]}}}) as running:
        yield running


@pytest.fixture
async def folder(shop: DoorShop, tmp_path: Path) -> Path:
    """A project with types made of what this server says, and a program that uses them."""
    app, generator = await asyncio.to_thread(lambda: [npm_packages(each) for each in (APP, GENERATOR)])
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(generator / "node_modules")
    shutil.copy(FRONT_ENDS / "generated.ts", tmp_path)
    async with aiohttp.ClientSession() as http, http.get(f"{shop.url}/openapi.json") as answer:
        (tmp_path / "openapi.json").write_text(await answer.text())
    made = ["openapi.json", "--output", "api.d.ts"]
    await asyncio.to_thread(run, generator / "node_modules/.bin/openapi-typescript", *made, cwd=tmp_path)
    options = {**STRICT, "typeRoots": [str(app / "node_modules/@types")], "types": ["node"]}
    config = {"compilerOptions": options, "files": ["api.d.ts", "generated.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    return tmp_path


async def test_generated_types_hold_and_order_at_a_real_server(shop: DoorShop, folder: Path) -> None:
    app, generator = npm_packages(APP), npm_packages(GENERATOR)
    for tools in (app, generator):  # TypeScript 7, and the generator's own 5
        await asyncio.to_thread(run, tools / "node_modules/.bin/tsc", "-p", folder)
    picture = folder / "photo.jpg"
    picture.write_bytes(picture_bytes(size=(300, 200)))
    node = app / "node_modules/node/bin/node"
    said = await asyncio.to_thread(
        run, node, "--disable-warning=ExperimentalWarning", folder / "generated.ts", shop.url, shop.key(USER),
        shop.key("backend", "service"), USER, picture, cwd=folder,
    )  # fmt: skip
    told = json.loads(said)
    status, sentence, pointer = told.pop("refused")
    assert status == 422 and "4000" in sentence and pointer == "/params/prompt"
    (url,) = told.pop("urls")
    assert url.startswith("/files/")
    assert told == {"width": 300, "credits": 1, "status": "completed", "theirs": True}
    (task,) = shop.tasks(USER)
    assert shop.debits(USER) == 1 and shop.params(task)["prompt"] == "a fair"
