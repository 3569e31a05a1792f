"""`darkroom provider new URL` recognises a running server and writes its settings."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from actors.registry.recognising import recognise, settings_text
from tests.support.command_line import darkroom
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.fakes.gradio_app import GradioApp
from tests.support.servers.cog_server import CogServer

URL = "http://127.0.0.1:1234"
FORM = {
    "properties": {"image": {"format": "image"}, "prompt": {"type": "string"}, "seconds": {"type": "number"}}
}
# Cut from what LitServe 0.2.19, BentoML 1.4.40 and LiteLLM 1.80 answered, and from the documents of the others.
BENTO = {
    "info": {"description": "# Inv [status](https://img.shields.io/badge/BentoML-1.4.40-informational)"},
    "paths": {
        "/healthz": {"get": {"tags": ["Infrastructure"]}},
        "/invert": {
            "post": {
                "tags": ["Service APIs"],
                "requestBody": {
                    "content": {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/In"}}}
                },
            }
        },
        "/slow/submit": {"post": {"tags": ["Service APIs"]}},
    },
    "components": {"schemas": {"In": FORM}},
}


@pytest.mark.parametrize(
    ("answers", "what", "provider"),
    [
        (
            {"/info": {"model": None, "server": {"workers_per_device": 1, "stream": {"/predict": False}}}},
            "A LitServe server",
            {"preset": "litserve", "url": URL, "submit": {"url": "/predict"}},
        ),
        (
            {"/docs.json": BENTO},
            "A BentoML service, version 1.4.40",
            {
                "preset": "bentoml",
                "url": URL,
                "submit": {
                    "url": "/invert",
                    "body": {"image": "${input.0.bytes}", "prompt": "${params.prompt}"},
                },
            },
        ),
        ({"/sdapi/v1/sd-models": []}, "Stable Diffusion web UI or Forge", {"preset": "a1111", "url": URL}),
        (
            {"/v2": {"version": "2.5", "extensions": []}},
            "Triton, version 2.5",
            {"preset": "triton", "url": URL, "model": ""},
        ),
        (
            {"/v1/models": {"data": [{"id": "paint"}]}},
            "A server that speaks OpenAI's API",
            {"kind": "openai", "url": f"{URL}/v1", "model": "paint", "allow_private_addresses": True},
        ),
    ],
)
def test_a_server_is_known_by_its_own_description(
    answers: dict[str, Any], what: str, provider: dict[str, Any]
):
    known = recognise(URL, answers)
    assert known is not None and known.what == what
    written = tomllib.loads(settings_text("own", "own_photo", known))
    assert written["providers"]["own"] == provider and written["tasks"]["own_photo"]["provider"] == "own"


@pytest.mark.parametrize(
    "answers", [{}, {"/config": []}, {"/config": {"dependencies": []}}, {"/info": {}}, {"/docs.json": {}}]
)
def test_an_unknown_server_is_not_guessed(answers: dict[str, Any]):
    assert recognise(URL, answers) is None


def test_a_gradio_app_is_in_the_settings_after_one_command_and_never_twice(tmp_path: Path):
    file = tmp_path / "darkroom.toml"
    file.write_text("port = 0\n")
    with GradioApp() as app:
        made = darkroom(tmp_path, "provider", "new", app.url, "--out", str(file))
        assert made.returncode == 0 and "darkroom doctor --provider own" in made.stdout, made.stderr
        written = tomllib.loads(file.read_text())
        assert written["port"] == 0
        assert written["providers"]["own"]["options"] == {
            "endpoint": "invert",
            "input": {"image": "${input.0.file}"},
        }
        again = darkroom(tmp_path, "provider", "new", app.url, "--out", str(file))
        assert (again.returncode, tomllib.loads(file.read_text())) == (1, written)
        assert "has [providers.own] already" in again.stderr


def test_comfyui_is_known_by_its_nodes_and_unknown_or_absent_servers_are_reported(tmp_path: Path):
    with ComfyUi() as comfy:
        made = darkroom(tmp_path, "provider", "new", comfy.url)
        assert tomllib.loads(made.stdout)["providers"]["own"]["kind"] == "comfyui", made.stderr
        stranger = darkroom(tmp_path, "provider", "new", f"{comfy.url}/nowhere")
        assert stranger.returncode == 1 and "kind `http`" in stranger.stderr
    nobody = darkroom(tmp_path, "provider", "new", "http://127.0.0.1:9")
    assert nobody.returncode == 1 and "connection refused" in nobody.stderr
    assert darkroom(tmp_path, "provider", "new", "ftp://x").returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="cog has wheels for Linux alone")
def test_a_real_cog_server_is_known(tmp_path: Path):
    with CogServer(tmp_path / "cog") as cog:
        made = darkroom(tmp_path, "provider", "new", cog.url)
    provider = tomllib.loads(made.stdout)["providers"]["own"]
    assert (provider["kind"], provider["options"]["dialect"]) == ("replicate", "cog"), made.stderr
    assert "built without a schema" in made.stdout
