"""What openapi-python-client makes of our description can be imported, is sound to mypy, and orders."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import httpx

from tests.support.clients.wheels import environment
from tests.support.houses.door_shop import door_shop
from tests.support.houses.web_server import picture_bytes

# All that it installs: it wants other versions than constraints.txt has.
PACKAGES = [
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "ast_serialize==0.13.1",
    "attrs==26.1.0",
    "certifi==2026.10.19.post1",
    "h11==0.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "idna==3.20",
    "Jinja2==3.1.6",
    "librt==0.17.0",
    "markdown-it-py==4.3.0",
    "MarkupSafe==3.0.4",
    "mdurl==0.1.2",
    "mypy==2.4.1",
    "mypy_extensions==1.2.0",
    "openapi-python-client==0.29.1",
    "pathspec==1.1.1",
    "pydantic==2.14.4",
    "pydantic_core==2.50.5",
    "Pygments==2.21.0",
    "rich==15.0.0",
    "ruamel.yaml==0.19.1",
    "ruff==0.17.6",
    "shellingham==1.5.4",
    "typer==0.27.3",
    "typing-inspection==0.4.5",
    "typing_extensions==4.16.0",
]
USER = Path(__file__).with_name("generated_client_user.py")
POSTER = {
    "inputs": {"images": [0, 4]},
    "parameters": {
        "properties": {"quality": {"enum": ["sd", "hd"], "default": "sd"}, "steps": {"type": "integer"}},
        "additionalProperties": False,
    },
}


async def _run(*command: str | Path, cwd: Path) -> str:
    running = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(cwd)},
    )  # fmt: skip
    out, _ = await running.communicate()
    assert running.returncode == 0, out.decode()[-4000:]
    return out.decode()


async def test_a_generated_client_compiles_and_orders(tmp_path: Path) -> None:
    python = await asyncio.to_thread(environment, PACKAGES, is_pinned=True)
    picture, document = tmp_path / "portrait.jpg", tmp_path / "openapi.json"
    picture.write_bytes(picture_bytes())
    async with door_shop(tmp_path / "shop", tasks={"poster": POSTER}) as shop:
        async with httpx.AsyncClient() as http:
            document.write_text(json.dumps((await http.get(f"{shop.url}/openapi.json")).json()))
        generate = ["generate", "--path", document, "--output-path", tmp_path / "generated", "--meta", "none"]
        await _run(python.with_name("openapi-python-client"), *generate, cwd=tmp_path)
        await _run(python, "-m", "mypy", "--cache-dir", tmp_path / "mypy", "generated", cwd=tmp_path)
        keys = [shop.key("o-1"), shop.key("backend", "service")]
        assert "done" in await _run(python, USER, shop.url, *keys, picture, cwd=tmp_path)
        assert len(shop.tasks("o-1")) == 1 and len(shop.tasks("o-2")) == 1
