"""The settings in docs/ai-services.md work as printed there."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.files.scratch import Scratch
from actors.providers.base import ContentRejected, Job, RateLimited
from actors.providers.common.answers import CLASSES
from actors.providers.http.provider import HttpProvider
from actors.providers.http.service import read_service
from actors.providers.provider_context import ProviderContext
from actors.providers.warm.provider import WarmProvider
from actors.registry.adapters import check_provider, check_providers, open_provider
from config.load_settings import SettingsError, load_settings
from config.provider_presets import preset_names
from config.settings import Settings
from supervisor.objects.local_files import LocalFiles
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.security.file_links import LinkSigner
from tests.support.fakes.fake_ai_service import FakeAiService, Reply
from tests.support.providers.instant_provider import ONE_PIXEL

PAGE = (Path(__file__).parents[2] / "docs" / "ai-services.md").read_text(encoding="utf-8")


SERVERS_OF_ONES_OWN = ("a1111", "bentoml", "bentoml-task", "litserve", "triton", "vllm-omni")  # nobody bills


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def settings_of(toml: str, tmp_path: Path, **environ: str) -> Settings:
    file = tmp_path / "darkroom.toml"
    file.write_text(toml, encoding="utf-8")
    given = {"DARKROOM_CONFIG": str(file), "DARKROOM_DATA_DIR": str(tmp_path)}
    return load_settings(given | {f"DARKROOM_{name}": value for name, value in environ.items()})


def job(tmp_path: Path, **changes: Any) -> Job:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(ONE_PIXEL)
    given = {
        "task_id": "t-1",
        "type": "portrait",
        "params": {"images": ["a", "b"], "prompt": "waving", "parameters": {"model": "wan", "steps": 30}},
        "inputs": (photo, photo),
        "pictures": (0, 1),
        "count": 2,
        "seed": 11,
        "scratch": Scratch(tmp_path),
        "ai_timeout_seconds": 10.0,
        "input_keys": ("uploads/a.jpg", "uploads/b.jpg"),
        "reference": "t-1.1.1.0",
    }
    return Job(**(given | changes))


def test_the_chinese_twin_has_the_same_code_headings_and_tables() -> None:
    twin = (Path(__file__).parents[2] / "docs" / "ai-services.zh-CN.md").read_text(encoding="utf-8")
    code = re.compile(r"```\w+\n.*?```", re.DOTALL)
    assert code.findall(twin) == code.findall(PAGE)
    for start in ("#", "|"):
        assert [line.split(" ")[0] for line in code.sub("", twin).splitlines() if line.startswith(start)] == [
            line.split(" ")[0] for line in code.sub("", PAGE).splitlines() if line.startswith(start)
        ]
    cells = re.compile(r"^\| (`[^|]+?`) \|", re.MULTILINE)
    told = [cell.replace("、", ", ") for cell in cells.findall(twin)]
    assert told == cells.findall(PAGE), "what stands in code in a first column"


async def test_the_http_example_works_as_it_stands(tmp_path):
    encoded = base64.b64encode(ONE_PIXEL).decode()
    with FakeAiService(lambda asked: Reply(200, {"data": [{"b64_json": encoded}] * 2})) as fake:
        example = next(block for block in blocks("toml") if "[providers.atelier]" in block)
        example = example.replace("https://atelier.example.com", fake.url)
        settings = settings_of(example, tmp_path, PROVIDERS__atelier__SECRETS__KEY="sk-1")
        check_providers(settings)
        service = read_service("atelier", settings.providers["atelier"], settings)
        images = ImageProcesses(1)
        provider = HttpProvider(
            service,
            ProviderContext(
                images=images,
                files=LocalFiles(tmp_path / "files"),
                links=LinkSigner("secret", 60),
                base_url=settings.url,
                most_pixels=1000,
            ),
        )
        try:
            done = await provider.submit(job(tmp_path), lambda percent, stage: None)
            assert [image.n for image in done.images] == [0, 1]
            (asked,) = fake.asked
            assert asked.path == "/v1/wan/images"
            assert asked.headers["Authorization"] == "Bearer sk-1"
            assert asked.headers["Idempotency-Key"] == "t-1.1.1.0"
            assert asked.document == {
                "prompt": "waving, by the sea",
                "n": 2,
                "seed": 11,
                "person": f"data:image/jpeg;base64,{encoded}",
                "garment": asked.document["garment"],
                "options": {"steps": 30, "size": "1024*1024"},
            }
            assert asked.document["garment"].startswith("https://photos.example.com/files/uploads/b.jpg?exp=")
            for code, class_ in (("DataInspectionFailed", ContentRejected), ("Throttling.User", RateLimited)):
                fake.reply = lambda asked, code=code: Reply(200, {"output": {"code": code}})
                with pytest.raises(class_):
                    await provider.submit(job(tmp_path), lambda percent, stage: None)
        finally:
            await provider.close()
            await images.close()
    limits = settings.providers["atelier"].limits
    assert (limits.rps, limits.concurrency, service.pictures_per_request) == (10, 5, 4)
    assert not service.may_bill_twice


async def test_the_python_example_works_as_it_stands(tmp_path, monkeypatch):
    code = next(block for block in blocks("python") if "class Mine" in block)
    (tmp_path / "my_provider.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = settings_of(next(block for block in blocks("toml") if "my_provider" in block), tmp_path)
    check_providers(settings)
    import my_provider  # type: ignore[import-not-found]

    provider = my_provider.Mine("mine", settings.providers["mine"])
    done = await provider.submit(job(tmp_path), lambda percent, stage: None)
    assert [image.path.stat().st_size > 100 for image in done.images] == [True, True]
    assert provider.paid


async def test_the_settings_of_a_model_are_those_of_the_example(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "models"))
    settings = settings_of(next(block for block in blocks("toml") if "slow_poster" in block), tmp_path)
    check_providers(settings)
    assert settings.needs_of_types == {"poster": {"gpu": 1}}
    assert settings.providers["poster"].env == {"CUDA_VISIBLE_DEVICES": "0"}
    provider = open_provider("poster", SimpleNamespace(settings=settings))
    assert isinstance(provider, WarmProvider)
    await provider.close()


def test_every_class_and_placeholder_of_the_program_stands_on_the_page():
    for name in CLASSES:
        assert f"`{name}`" in PAGE
    names = [
        "task_id",
        "reference",
        "count",
        "seed",
        "model",
        "id",
        "callback_url",
        "secret.NAME",
        "kept.NAME",
    ]
    for name in [*names, *(f"input.0.{form}" for form in ("url", "data_uri", "bytes", "file"))]:
        assert f"${{{name}}}" in PAGE


def test_the_first_example_is_a_task_type(tmp_path):
    first = blocks("toml")[0] + '\n[providers.atelier]\nkind = "http"\n'
    assert settings_of(first, tmp_path).tasks["portrait"].max_running == 8


def test_every_provider_of_the_page_can_be_used(tmp_path):
    workflow = tmp_path / "workflow.json"
    workflow.write_text('{"9": {"class_type": "SaveImage", "inputs": {}}}', encoding="utf-8")
    together = [
        block
        for block in blocks("toml")
        if not any(each in block for each in ("[tasks.portrait]", "my_provider", "slow_poster"))
    ]
    page = "\n".join(together).replace("/etc/darkroom/portrait_api.json", str(workflow))
    page = re.sub(r"(?m)^\[tasks\..*\]\nprovider = .*$", "", page)
    settings = settings_of(page, tmp_path, PROVIDERS__tryon__SECRETS__KEY="k", URL="https://us.test")
    assert {"tryon", "painter", "flux", "mine", "comfy", "slow"} <= set(settings.providers)
    for name in settings.providers:
        check_provider(name, settings)


def test_every_preset_of_the_program_stands_on_the_page_and_can_be_used(tmp_path):
    for name in preset_names():
        assert f"`{name}`" in PAGE
        environ = {
            "URL": "https://us.test",
            "PROVIDERS__it__PRESET": name,
            "PROVIDERS__it__SECRETS__KEY": "k",
            "PROVIDERS__it__MODEL": "a-model",
        }
        settings = settings_of("", tmp_path, **environ)
        check_provider("it", settings)
        assert settings.providers["it"].may_bill_twice is (name in SERVERS_OF_ONES_OWN)
    with pytest.raises(SettingsError, match="may be one of a1111, ark-seedream, bentoml"):
        settings_of("", tmp_path, PROVIDERS__it__PRESET="fall")


def test_a_preset_is_the_default_for_settings_and_a_body_is_replaced_whole(tmp_path):
    own = """
        [providers.it]
        preset = "fal"
        model = "fal-ai/flux/dev"
        submit = { headers = { X-Mine = "1" }, body = { prompt = "${params.prompt}" } }
        limits = { rps = 3 }
    """
    fal = settings_of(own, tmp_path).providers["it"]
    assert fal.submit["headers"] == {"Authorization": "Key ${secret.KEY}", "X-Mine": "1"}
    assert fal.submit["body"] == {"prompt": "${params.prompt}"}
    assert (fal.kind, fal.mode, fal.model, fal.limits.rps) == ("http", "poll", "fal-ai/flux/dev", 3)
