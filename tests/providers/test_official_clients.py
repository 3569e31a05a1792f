"""Our fakes of AI services are not only our reading: each serves its official client, and beside it our adapter."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from actors.providers.base import Accepted, Report
from actors.providers.replicate.signature import is_signed
from tests.support.fakes.dashscope_service import DashScope
from tests.support.fakes.fal_service import Fal
from tests.support.fakes.openai_service import OpenAi
from tests.support.fakes.replicate_service import WEBHOOK_KEY, Replicate
from tests.support.providers.adapters import PORTRAIT, Adapters, colour_of, images_of

OUR_URL = "https://photos.example"


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


# --- DashScope ---


@pytest.fixture
def dashscope_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[DashScope]:
    import dashscope

    with DashScope() as service:
        monkeypatch.setattr(dashscope, "base_http_api_url", f"{service.url}/api/v1")
        yield service


def test_the_dashscope_client_gets_its_picture(dashscope_service):
    from dashscope import ImageSynthesis

    dashscope_service.states = ["SUCCEEDED"]
    answer = ImageSynthesis.call(
        "wan2.2-t2i-flash", "by the sea", api_key="sk-1", n=1, size="1024*1024", task="text2image"
    )
    assert answer.output.task_status == "SUCCEEDED"
    assert [result.url for result in answer.output.results] == [dashscope_service.picture_url()]


def test_the_dashscope_client_submits_a_try_on_and_gets_unknown_for_a_foreign_task(dashscope_service):
    from dashscope import ImageSynthesis

    garment = {"person_image_url": "https://a.test/p.png", "top_garment_url": "https://a.test/g.png"}
    handed_in = ImageSynthesis.async_call(
        "aitryon", "x", api_key="sk-1", extra_input=garment, task="image2image"
    )
    assert handed_in.output.task_status == "PENDING"
    status = ImageSynthesis.fetch("no-such-task", api_key="sk-1")
    assert (status.status_code, status.output.task_status) == (200, "UNKNOWN")
    refused = ImageSynthesis.async_call("wanx-v1", "x", api_key="wrong")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")


async def test_our_presets_send_what_the_dashscope_client_sends(dashscope_service, adapters):
    from dashscope import ImageSynthesis

    ImageSynthesis.async_call(
        "wan2.2-t2i-flash", "by the sea", api_key="sk-1", n=1, size="1024*1024", task="text2image"
    )
    wanx = adapters.open(
        {
            "preset": "dashscope-wanx",
            "url": f"{dashscope_service.url}/api/v1",
            "secrets": {"KEY": "sk-1"},
            "allow_private_addresses": True,
        }
    )
    images = images_of(await adapters.ended(wanx))
    assert colour_of(images[0]) == "red"
    theirs, ours = [asked for asked in dashscope_service.asked if asked[0] == "POST"]
    assert (ours[1], ours[3]) == (theirs[1], theirs[3])
    for name in ("Authorization", "X-DashScope-Async"):
        assert ours[2][name] == theirs[2][name]


async def test_a_try_on_with_links_to_our_pictures(dashscope_service, adapters):
    tryon = adapters.open(
        {
            "preset": "dashscope-aitryon",
            "url": f"{dashscope_service.url}/api/v1",
            "secrets": {"KEY": "sk-1"},
            "allow_private_addresses": True,
        },
        url=OUR_URL,
    )
    dashscope_service.states = ["PENDING", "RUNNING", "SUCCEEDED"]
    dashscope_service.ending = {"results": None, "image_url": dashscope_service.picture_url("blue.png")}
    assert colour_of(images_of(await adapters.ended(tryon))[0]) == "blue"
    body = dashscope_service.asked[0][3]
    assert body["model"] == "aitryon"
    assert body["input"]["person_image_url"].startswith(f"{OUR_URL}/files/uploads/i-1.png?exp=")
    assert body["input"]["top_garment_url"].startswith(f"{OUR_URL}/files/uploads/i-2.png?exp=")


# --- fal ---


@pytest.fixture
def fal_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fal]:
    import fal_client.client

    with Fal() as service:
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{service.url}/")
        yield service


def test_the_fal_client_gets_its_pictures(fal_service):
    import fal_client

    client = fal_client.SyncClient(key="id:secret")
    handle = client.submit("fal-ai/fashn/tryon/v1.5", {"model_image": "x", "garment_image": "y"})
    assert isinstance(handle.status(), fal_client.Queued)
    assert isinstance(handle.status(), fal_client.InProgress)
    assert handle.get()["images"][0]["url"] == fal_service.picture_url()
    handle.cancel()


async def test_our_preset_goes_the_ways_of_the_fal_client(fal_service, adapters):
    import fal_client

    client = fal_client.SyncClient(key="id:secret")
    client.submit("fal-ai/fashn/tryon/v1.5", {"a": 1}, webhook_url=f"{OUR_URL}/hook").get()
    theirs = fal_service.paths()
    fal_service.asked.clear()
    fal = adapters.open(
        {
            "preset": "fal",
            "url": fal_service.url,
            "secrets": {"KEY": "id:secret"},
            "allow_private_addresses": True,
        }
    )
    images = images_of(
        await adapters.ended(fal, adapters.job(pictures=(0, 1), count=2, callback_url=f"{OUR_URL}/hook"))
    )
    assert [colour_of(image) for image in images] == ["red", "blue"]
    ours = fal_service.paths()
    hook = f"/fal-ai/fashn/tryon/v1.5?fal_webhook={OUR_URL}/hook"
    assert unquote(ours[0]) == unquote(theirs[0]) == hook
    assert {path.partition("?")[0].replace("req-1", "req-0") for path in ours} == {
        path.partition("?")[0] for path in theirs
    }
    assert fal_service.asked[0][2]["Authorization"] == "Key id:secret"
    remote = await adapters.submit(fal)
    assert isinstance(remote, Accepted)
    assert await fal.cancel(remote)
    assert fal_service.asked[-1][:2] == ("PUT", f"/fal-ai/fashn/requests/{remote.remote_id}/cancel")


# --- Replicate ---


@pytest.fixture
def replicate_service() -> Iterator[Replicate]:
    with Replicate() as service:
        yield service


def replicate_settings(service: Replicate, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "replicate",
        "url": f"{service.url}/v1",
        "model": "us/them",
        "options": {"input": {"image": "${input.0.data_uri}", "prompt": "${params.prompt}"}},
        "secrets": {"KEY": "r8-1"},
        "allow_private_addresses": True,
        **changes,
    }


async def test_the_replicate_client_and_our_adapter_go_the_same_ways(replicate_service, adapters):
    import replicate

    client = replicate.Client(api_token="r8-1", base_url=replicate_service.url)
    prediction = client.models.predictions.create(
        "us/them", input={"prompt": "x"}, webhook=f"{OUR_URL}/hook", webhook_events_filter=["completed"]
    )
    assert (prediction.id, prediction.status) == ("p0", "starting")
    prediction.reload()
    assert prediction.progress is not None
    assert (prediction.progress.percentage, prediction.progress.current) == (0.35, 7)
    prediction.reload()
    assert (prediction.status, prediction.output) == ("succeeded", [replicate_service.picture_url()])
    theirs = list(replicate_service.asked)
    replicate_service.asked.clear()

    provider = adapters.open(replicate_settings(replicate_service, mode="callback"))
    job = adapters.job(callback_url=f"{OUR_URL}/hook")
    remote = await adapters.submit(provider, job)
    assert isinstance(remote, Accepted)
    running = await adapters.poll(provider, remote)
    assert (running.progress, running.stage) == (35, "running at the AI service")
    assert colour_of(images_of(await adapters.poll(provider, remote))[0]) == "red"
    ours = list(replicate_service.asked)
    assert [each[:2] for each in ours] == [
        (method, path.replace("p0", "p1")) for method, path, _, _ in theirs
    ]
    assert set(ours[0][3]) == set(theirs[0][3])
    assert ours[0][2]["Authorization"] == theirs[0][2]["Authorization"]

    prediction.cancel()
    assert await provider.cancel(remote)
    assert replicate_service.paths("POST")[-2:] == ["/v1/predictions/p0/cancel", "/v1/predictions/p1/cancel"]


async def test_a_webhook_that_replicates_own_rule_accepts_is_accepted_and_no_other(
    replicate_service, adapters
):
    import replicate.webhook

    provider = adapters.open(
        replicate_settings(
            replicate_service, mode="callback", secrets={"KEY": "r8-1", "WEBHOOK": WEBHOOK_KEY}
        ),
        url=OUR_URL,
    )
    remote = await adapters.submit(provider)
    assert isinstance(remote, Accepted)
    headers, body = replicate_service.webhook(remote.remote_id, "succeeded")
    secret = replicate.webhook.WebhookSigningSecret(key=WEBHOOK_KEY)
    replicate.webhook.Webhooks.validate(headers=headers, body=body.decode(), secret=secret)
    assert is_signed(headers, body, WEBHOOK_KEY)
    forged = headers | {"webhook-signature": "v1," + base64.b64encode(b"x" * 32).decode()}
    with pytest.raises(replicate.webhook.InvalidSignatureError):
        replicate.webhook.Webhooks.validate(headers=forged, body=body.decode(), secret=secret)
    assert not is_signed(forged, body, WEBHOOK_KEY)
    assert not is_signed(headers, body + b" ", WEBHOOK_KEY)
    done = await provider.parse_callback(
        remote, adapters.job(inputs=(), input_keys=()), Report(headers, body)
    )
    assert colour_of(images_of(done)[0]) == "red"


# --- OpenAI ---


@pytest.fixture
def openai_service() -> Iterator[OpenAi]:
    with OpenAi() as service:
        yield service


def openai_settings(service: OpenAi, **options: Any) -> dict[str, Any]:
    return {
        "kind": "openai",
        "url": f"{service.url}/v1",
        "model": "gpt-image-2",
        "options": options,
        "secrets": {"KEY": "sk-1"},
        "allow_private_addresses": True,
    }


def size_of(encoded: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(encoded))).size


async def test_the_openai_client_and_our_adapter_edit_a_picture_alike(openai_service, adapters):
    import openai

    photo = PORTRAIT.read_bytes()
    with openai.OpenAI(base_url=f"{openai_service.url}/v1", api_key="sk-1", max_retries=0) as client:
        answer = client.images.edit(
            model="gpt-image-2",
            prompt="by the sea",
            n=2,
            image=[("input-0.png", photo, "image/png"), ("input-1.png", photo, "image/png")],
        )
    assert [size_of(image.b64_json or "") for image in answer.data or []] == [(40, 30)] * 2
    theirs = openai_service.fields
    provider = adapters.open(openai_settings(openai_service))
    order = adapters.job(inputs=(PORTRAIT, PORTRAIT), pictures=(0, 1), count=2)
    images = images_of(await adapters.ended(provider, order))
    assert [colour_of(image) for image in images] == ["red", "red"]
    assert sorted(openai_service.fields, key=str) == sorted(theirs, key=str)
    assert openai_service.paths() == ["/v1/images/edits"] * 2


async def test_drafts_are_streamed_to_the_openai_client_and_are_progress_to_us(openai_service, adapters):
    import openai

    with openai.OpenAI(base_url=f"{openai_service.url}/v1", api_key="sk-1", max_retries=0) as client:
        events = list(
            client.images.generate(model="gpt-image-2", prompt="x", stream=True, partial_images=2, n=1)
        )
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image"] * 2 + ["completed"]
    provider = adapters.open(openai_settings(openai_service, edit_style="none"))
    assert colour_of(images_of(await adapters.ended(provider))[0]) == "blue"
    drafts = [percent for percent, stage in adapters.progress if stage == "drafting the picture"]
    assert drafts == [35, 60]
    ours, theirs = openai_service.asked[1][3], openai_service.asked[0][3]
    assert ours == theirs | {"prompt": "by the sea"}


async def test_the_ark_dialect_serves_the_openai_client_and_both_our_ways_to_it(openai_service, adapters):
    import openai

    openai_service.data = [
        {"url": openai_service.picture_url("blue.png"), "size": "2048x2048"},
        {"error": {"code": "OutputImageSensitiveContentDetected", "message": "no"}},
    ]
    with openai.OpenAI(base_url=f"{openai_service.url}/v1", api_key="sk-1", max_retries=0) as client:
        answer = client.images.generate(
            model="doubao-seedream-4-0-250828", prompt="x", extra_body={"image": "data:image/png;base64,AA=="}
        )
    assert [image.url for image in answer.data or []] == [openai_service.picture_url("blue.png"), None]
    preset = {
        "preset": "ark-seedream",
        "url": f"{openai_service.url}/v1",
        "secrets": {"KEY": "sk-1"},
        "allow_private_addresses": True,
    }
    of_json = openai_settings(openai_service, edit_style="json_image", partial_images=0)
    for settings in (preset, of_json):
        said = await adapters.ended(adapters.open(settings), adapters.job(pictures=(0, 1), count=2))
        assert [colour_of(image) for image in images_of(said)] == ["blue"]  # the other one was refused
        sent = openai_service.asked[-1][3]["image"]
        assert len(sent) == 2 and all(each.startswith("data:image/png;base64,") for each in sent)
