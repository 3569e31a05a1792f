"""The `http` provider with a real service on loopback: every outcome class, every form of picture, no secret shown."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from PIL import Image

from actors.files.scratch import Scratch
from actors.providers.base import (
    Ambiguous,
    AtCapacity,
    ContentRejected,
    CutOff,
    InvalidInput,
    Job,
    MadeImage,
    NotReady,
    ProviderDown,
    ProviderError,
    RateLimited,
    ResultLost,
    UnknownOutcome,
    Unreachable,
)
from actors.providers.common.order_values import OrderValues
from actors.providers.http.provider import HttpProvider
from actors.providers.http.service import read_service
from actors.providers.provider_context import ProviderContext
from actors.registry.adapters import check_providers
from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.objects.local_files import LocalFiles
from supervisor.objects.object_store import StoreAway
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.security.file_links import LinkSigner
from tests.support.fakes.fake_ai_service import FakeAiService, Reply, picture_reply
from tests.support.pictures import picture

SECRET = "sk-tell-nobody-123"
SAMPLE = Path(__file__).parents[2] / "examples" / "samples" / "portrait.png"


@pytest.fixture(scope="module")
def service() -> Iterator[FakeAiService]:
    with FakeAiService() as fake:
        yield fake


@pytest.fixture(autouse=True)
def forgotten(service: FakeAiService) -> None:
    """Each test has a service that has seen nothing."""
    service.asked.clear()
    service.answered = service.broken_off = 0
    service.reply = lambda asked: picture_reply(picture())


Opener = Callable[..., HttpProvider]


@pytest.fixture
async def open_provider(tmp_path: Path, service: FakeAiService) -> AsyncIterator[Opener]:
    """A provider on the fake service.  Keywords are its settings; `url` is that of Darkroom itself."""
    opened: list[HttpProvider] = []
    processes = ImageProcesses(1)

    def make(*, url: str = "", limits: dict[str, Any] | None = None, **changes: Any) -> HttpProvider:
        provider = {
            "kind": "http",
            "url": service.url,
            "submit": {"url": "/make", "body": {"prompt": "${params.prompt}"}},
            "result": ["$.image", "$.urls[*]"],
            "secrets": {"KEY": SECRET},
            **changes,
        }
        settings = Settings(
            data_dir=tmp_path,
            url=url,
            providers={"ai": provider},  # type: ignore[dict-item]
            limits=limits or {},  # type: ignore[arg-type]
        )
        provider = HttpProvider(
            read_service("ai", settings.providers["ai"], settings),
            ProviderContext(
                images=processes,
                files=LocalFiles(tmp_path / "files"),
                links=LinkSigner("secret", 3600),
                base_url=settings.url,
                most_pixels=settings.limits.image_pixels,
            ),
        )
        opened.append(provider)
        return provider

    yield make
    for each in opened:
        await each.close()
    await processes.close()


def job(tmp_path: Path, **changes: Any) -> Job:
    folder = tmp_path / "job"
    folder.mkdir(exist_ok=True)
    given = {
        "task_id": "t-1",
        "type": "photography",
        "params": {"images": ["i-1"], "prompt": "by the sea"},
        "inputs": (SAMPLE,),
        "pictures": (0,),
        "count": 1,
        "seed": 7,
        "scratch": Scratch(folder),
        "ai_timeout_seconds": 20.0,
        "input_keys": ("uploads/i-1.png",),
        "reference": "t-1.1.1.0",
    }
    return Job(**(given | changes))


async def made(provider: HttpProvider, order: Job) -> tuple[MadeImage, ...]:
    return (await provider.submit(order, lambda percent, stage: None)).images


async def failure(provider: HttpProvider, order: Job) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.submit(order, lambda percent, stage: None)
    return caught.value


# --- what leaves ---


async def test_a_json_request_leaves_as_its_template_says(service, open_provider, tmp_path):
    provider = open_provider(
        submit={
            "url": "/v1/${params.parameters.model}/make",
            "method": "PUT",
            "query": {"n": "${count}"},
            "headers": {"Authorization": "Bearer ${secret.KEY}", "Idempotency-Key": "${reference}"},
            "body": {
                "image": "${input.0.data_uri}",
                "raw": "${input.0.bytes}",
                "second": "${input.1.data_uri}",
                "steps": "${params.parameters.steps}",
                "text": "task ${task_id}: ${params.prompt}",
                "seed": "${seed}",
            },
        }
    )
    order = job(
        tmp_path, params={"images": ["i"], "prompt": "p", "parameters": {"model": "wan/2", "steps": 9}}
    )
    await made(provider, order)
    (asked,) = service.asked
    encoded = base64.b64encode(SAMPLE.read_bytes()).decode()
    assert (asked.method, asked.path, asked.query) == ("PUT", "/v1/wan/2/make", "n=1")
    assert asked.document == {
        "image": f"data:image/png;base64,{encoded}",
        "raw": encoded,
        "steps": 9,
        "text": "task t-1: p",
        "seed": 7,
    }
    assert asked.headers["Authorization"] == f"Bearer {SECRET}"
    assert asked.headers["Idempotency-Key"] == "t-1.1.1.0"


async def test_a_multipart_request_holds_the_files(service, open_provider, tmp_path):
    body = {"image": "${input.0.bytes}", "prompt": "${params.prompt}", "n": "${count}"}
    await made(open_provider(submit={"url": "/make", "encoding": "multipart", "body": body}), job(tmp_path))
    assert service.asked[0].fields == (
        ("image", SAMPLE.read_bytes(), "input-0.png", "image/png"),
        ("prompt", "by the sea", None, None),
        ("n", "1", None, None),
    )


async def test_an_upload_is_sent_as_a_signed_link_on_our_public_address(service, open_provider, tmp_path):
    provider = open_provider(
        url="https://photos.example/", submit={"url": "/make", "body": {"image": "${input.0.url}"}}
    )
    await made(provider, job(tmp_path))
    link = service.asked[0].document["image"]
    assert link.startswith("https://photos.example/files/uploads/i-1.png?exp=") and "&sig=" in link


async def test_a_picture_given_by_its_address_is_made_plain_and_put_down_for_the_service_only_meanwhile(
    service, open_provider, tmp_path
):
    given = tmp_path / "given"
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    given.write_bytes(picture(kind="JPEG", exif=exif))
    files = tmp_path / "files"
    lying: list[bytes] = []

    def reply(asked):
        lying.extend(path.read_bytes() for path in files.rglob("*.jpg"))
        return picture_reply(picture())

    service.reply = reply
    provider = open_provider(
        url="https://photos.example",
        submit={"url": "/make", "body": {"a": "${input.0.url}", "b": "${input.0.data_uri}"}},
    )
    await made(provider, job(tmp_path, inputs=(given,), input_keys=(None,)))
    document = service.asked[0].document
    assert document["a"].startswith("https://photos.example/files/inputs/t-1-1-1-0/input-0.jpg?exp=")
    assert document["b"].startswith("data:image/jpeg;base64,")
    assert len(lying) == 1 and b"where I live" not in lying[0]
    assert not list(files.rglob("*.jpg"))


async def test_a_cancel_during_a_download_leaves_no_unread_error():
    """The store is away, and says so only after its caller has gone."""
    begun, away = threading.Event(), threading.Event()

    def delete(key: str) -> None:
        begun.set()
        away.wait(30)
        raise StoreAway("The file store can't be reached.")

    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
    context: Any = SimpleNamespace(files=SimpleNamespace(delete=delete))
    taking = asyncio.create_task(OrderValues(context, {}).take_away(["inputs/a.jpg"]))
    await asyncio.to_thread(begun.wait, 30)
    taking.cancel()
    with structlog.testing.capture_logs() as said:
        with pytest.raises(asyncio.CancelledError):
            await taking
        away.set()
        async with asyncio.timeout(60):
            while not said:  # noqa: ASYNC110  a log tells nobody
                await asyncio.sleep(0.005)
    gc.collect()
    assert [each["event"] for each in said] == ["input_left_behind"]
    assert unheard == []


async def test_an_input_by_address_that_is_no_picture_is_never_sent(service, open_provider, tmp_path):
    given = tmp_path / "given"
    given.write_bytes(b"root:x:0:0")
    provider = open_provider(submit={"url": "/make", "body": {"image": "${input.0.bytes}"}})
    found = await failure(provider, job(tmp_path, inputs=(given,), input_keys=(None,)))
    assert (type(found), found.code) == (InvalidInput, "image_unusable")
    assert not service.asked


async def test_a_redirect_is_not_followed(service, open_provider, tmp_path):
    service.reply = lambda asked: Reply(307, headers={"Location": f"{service.url}/elsewhere"})
    assert isinstance(await failure(open_provider(), job(tmp_path)), ProviderDown)
    assert [asked.path for asked in service.asked] == ["/make"]


# --- what comes back ---


async def test_pictures_come_back_as_base64_and_are_encoded_anew(service, open_provider, tmp_path):
    service.reply = lambda asked: picture_reply(picture("blue", "WEBP") + b"<?php glued to the end ?>")
    (image,) = await made(open_provider(), job(tmp_path))
    assert (image.n, image.width, image.height, image.path.suffix) == (0, 40, 30, ".jpg")
    assert b"php" not in image.path.read_bytes()
    red, green, blue = Image.open(image.path).getpixel((20, 15))
    assert blue > 240 and red < 15 and green < 15


async def test_a_body_that_is_a_picture_needs_no_path(service, open_provider, tmp_path):
    service.reply = lambda asked: Reply(body=picture(), headers={"Content-Type": "application/octet-stream"})
    (image,) = await made(open_provider(result=[]), job(tmp_path))
    assert (image.width, image.height) == (40, 30)


async def test_pictures_behind_addresses_are_fetched_where_that_network_is_allowed(
    service, open_provider, tmp_path
):
    service.pictures["one"], service.pictures["two"] = picture("red"), picture("green")
    urls = [f"{service.url}/pictures/{name}" for name in ("one", "two", "gone")]
    service.reply = lambda asked: Reply(document={"urls": urls})
    order = job(tmp_path, pictures=(1, 2, 3), count=4)
    images = await made(open_provider(allow_private_addresses=True), order)
    assert [image.n for image in images] == [1, 2]  # the third could not be had: a partial success
    assert Image.open(images[1].path).getpixel((5, 5))[1] > 100


async def test_an_answer_can_not_send_us_into_a_private_network(service, open_provider, tmp_path):
    service.pictures["one"] = picture()
    port = service.url.rpartition(":")[2]
    hosts = (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
        "169.254.169.254",
    )
    for host in hosts:
        service.reply = lambda asked, host=host: Reply(
            document={"image": f"http://{host}:{port}/pictures/one"}
        )
        found = await failure(open_provider(), job(tmp_path))
        assert isinstance(found, ResultLost), host
    assert all(asked.path == "/make" for asked in service.asked)


async def test_a_picture_that_redirects_into_a_private_network_is_not_fetched(monkeypatch):
    from actors.net import fetch as fetching
    from actors.net import public_addresses

    monkeypatch.setattr(public_addresses, "is_public", lambda address: not address.startswith("127.9."))
    with FakeAiService(lambda asked: Reply(302, headers={"Location": "http://127.9.9.9/x"})) as elsewhere:
        with pytest.raises(fetching.Unfetchable, match="not a public address"):
            await fetching.fetch(f"{elsewhere.url}/hop", most_bytes=100, allowed=fetching.Allowed(("http",)))
        with pytest.raises(fetching.Unfetchable, match="redirects more than"):
            elsewhere.reply = lambda asked: Reply(302, headers={"Location": "/hop"})
            await fetching.fetch(f"{elsewhere.url}/hop", most_bytes=100, allowed=fetching.Allowed(("http",)))


async def test_a_result_that_is_no_picture_or_too_large_counts_as_lost(service, open_provider, tmp_path):
    cut = picture("red", size=(400, 300))[:200]
    bomb = picture(size=(300, 300))
    for reply, settings in (
        (picture_reply(cut), {}),
        (picture_reply(bomb), {"limits": {"image_pixels": 10_000}}),
        (Reply(body=b"x" * 5000), {}),
    ):
        service.reply = lambda asked, reply=reply: reply
        provider = open_provider(**settings)
        provider._client._most_bytes = 4000
        found = await failure(provider, job(tmp_path))
        assert isinstance(found, ResultLost) and found.code == "provider_error"


async def test_more_pictures_than_ordered_are_left_alone(service, open_provider, tmp_path):
    service.pictures["one"] = picture()
    service.reply = lambda asked: Reply(document={"urls": [f"{service.url}/pictures/one"] * 5})
    images = await made(open_provider(allow_private_addresses=True), job(tmp_path))
    assert [image.n for image in images] == [0]


# --- every outcome class once ---


@pytest.mark.parametrize(
    ("reply", "class_", "code"),
    [
        (Reply(500), Ambiguous, "unknown_outcome"),
        (Reply(503), NotReady, "provider_error"),
        (Reply(429, headers={"Retry-After": "3"}), RateLimited, "provider_error"),
        (Reply(409), AtCapacity, "provider_error"),
        (Reply(503, headers={"Retry-After": "3"}), AtCapacity, "provider_error"),
        (Reply(422, {"code": "TooSmall"}), InvalidInput, "invalid_input"),
        (Reply(400, {"code": "DataInspectionFailed"}), ContentRejected, "content_rejected"),
        (Reply(401), ProviderDown, "provider_down"),
        (Reply(402), ProviderDown, "provider_down"),
        (Reply(cut="before"), CutOff, "unknown_outcome"),
        (Reply(cut="within"), CutOff, "unknown_outcome"),
        (Reply(504), UnknownOutcome, "unknown_outcome"),
        (Reply(200, {"nothing": 1}), ProviderError, "provider_error"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_the_class_of_what_goes_wrong(service, open_provider, tmp_path, reply, class_, code):
    service.reply = lambda asked: reply
    provider = open_provider(error={"code": "$.code", "content_rejected": ["DataInspection*"]})
    found = await failure(provider, job(tmp_path))
    assert (type(found), found.code) == (class_, code)
    assert len(service.asked) == 1  # an adapter never asks twice


async def test_no_answer_in_time_is_an_unknown_outcome_and_closes_the_connection(
    service, open_provider, tmp_path
):
    service.reply = lambda asked: picture_reply(after_seconds=30)
    found = await failure(open_provider(), job(tmp_path, ai_timeout_seconds=0.4))
    assert (type(found), found.code) == (UnknownOutcome, "ai_timeout")
    async with asyncio.timeout(60):
        while not service.broken_off:  # noqa: ASYNC110  it is another thread's
            await asyncio.sleep(0.01)


async def test_a_request_to_an_absent_server_was_never_sent(open_provider, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # no server listens
        port = taken.getsockname()[1]
        for address in (f"http://127.0.0.1:{port}/x", "http://no-such-host.invalid/x"):
            found = await failure(open_provider(submit={"url": address}), job(tmp_path))
            assert type(found) is Unreachable
            assert found.message.endswith(("(connection refused).", "(its name has no address)."))


async def test_a_cancel_closes_the_connection(service, open_provider, tmp_path):
    service.reply = lambda asked: picture_reply(after_seconds=30)
    asking = asyncio.create_task(made(open_provider(), job(tmp_path)))
    async with asyncio.timeout(60):
        while not service.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while not service.broken_off:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- secrets ---


async def test_a_secret_is_in_no_error_and_no_log(service, open_provider, tmp_path):
    echo = {
        "code": f"bad {SECRET}",
        "message": f"your key {SECRET} is wrong",
        "image": f"http://127.0.0.1/{SECRET}",
    }
    said: list[str] = []
    replies = [Reply(status, echo) for status in (200, 400, 401, 422, 429, 500, 504)]
    replies += [Reply(200, {"image": f"http://127.0.0.1/{SECRET}"}), Reply(200, echo)]
    replies += [Reply(cut="before"), Reply(cut="within"), Reply(307, headers={"Location": f"/{SECRET}"})]
    provider = open_provider(
        submit={
            "url": "/make/${secret.KEY}",
            "query": {"key": "${secret.KEY}"},
            "headers": {"X-Key": "${secret.KEY}"},
        },
        error={"code": ["$.code"], "message": ["$.message"]},
    )
    with structlog.testing.capture_logs() as logged:
        for reply in replies:
            service.reply = lambda asked, reply=reply: reply
            found = await failure(provider, job(tmp_path))
            said += [str(found), repr(found), str(found.__cause__), repr(found.__cause__)]
        refused = open_provider(submit={"url": "http://127.0.0.1:1/${secret.KEY}"})
        said.append(str(await failure(refused, job(tmp_path))))
    assert SECRET in service.asked[0].headers["X-Key"]
    assert SECRET not in " ".join(said)
    assert SECRET not in json.dumps(
        [entry for entry in logged if "picture" not in entry["event"]], default=str
    )


# --- settings ---


def refusal(tmp_path: Path, **provider: Any) -> str:
    given = {"kind": "http", "submit": {"url": "https://ai.test/make"}, **provider}
    settings = Settings(
        data_dir=tmp_path,
        providers={"ai": given},  # type: ignore[dict-item]
        tasks={"photography": {"provider": "ai"}},  # type: ignore[dict-item]
    )
    with pytest.raises(SettingFault) as caught:
        check_providers(settings)
    return str(caught.value)


POLLED = {"mode": "poll", "id": "$.id", "poll": {"url": "https://ai.test/${id}"}}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"submit": {}}, "DARKROOM_PROVIDERS__ai__SUBMIT__URL is not set"),
        ({"submit": {"url": "https://ai.test", "body": {"a": "${input.0.urll}"}}}, "input.0.urll} is no placeholder"),
        ({"submit": {"url": "https://ai.test", "headers": {"K": "${secret.NONE}"}}}, "${secret.NONE} is not set"),
        ({"submit": {"url": "https://ai.test/${id}"}}, "${id} has no value here"),
        ({"submit": {"url": "https://ai.test", "method": "TRACE"}}, "__METHOD is 'TRACE'"),
        ({"submit": {"url": "https://ai.test", "encoding": "xml"}}, "__ENCODING is 'xml'"),
        ({"submit": {"url": "https://ai.test", "encoding": "multipart", "body": "x"}}, "multipart body"),
        ({"submit": {"url": "https://ai.test", "bodyy": {}}}, "__SUBMIT__BODYY is not a setting"),
        ({"submit": {"url": "https://ai.test", "pictures_per_request": "-1"}}, "PICTURES_PER_REQUEST"),
        ({"submit": {"url": "https://ai.test", "body": "${input.0.url}"}}, "DARKROOM_URL"),
        ({"result": ["output.url"]}, "DARKROOM_PROVIDERS__ai__RESULT: 'output.url' is no path"),
        ({"error": {"code": "$.a["}}, "__ERROR__CODE"),
        ({"error": {"retry": {"a": 1}}}, "__ERROR__RETRY"),
        ({"error": {"again": []}}, "__ERROR__AGAIN is not a setting"),
        ({"mode": "poll", "id": "$.id"}, "__POLL__URL is not set"),
        (POLLED | {"id": ""}, "__ID is not set"),
        (POLLED | {"poll": {"url": "https://ai.test", "map": {"a": "over"}}}, "__POLL__MAP__a is 'over'"),
        (POLLED | {"poll": {"url": "https://ai.test/${kept.x}"}}, "${kept.x} has no value here"),
        (POLLED | {"poll": {"url": "${kept.x}"}}, "must begin with http"),
        (POLLED | {"poll": {"url": "https://ai.test", "interval": [1, 2, 3]}}, "__POLL__INTERVAL"),
        (POLLED | {"cancel": {"url": "https://ai.test/${task_id}"}}, "${task_id} has no value here"),
        ({"mode": "callback", "id": "$.id"}, "__CALLBACK__STATUS is not set"),
        (POLLED | {"mode": "callback"}, "DARKROOM_URL"),
        ({"preset": "dashscope-aitryon", "secrets": {"KEY": "k"}}, "DARKROOM_URL"),
        ({"preset": "fal"}, "${secret.KEY} is not set"),
        ({"kind": "comfyui"}, "__URL is not set, but must be ComfyUI's address"),
        ({"kind": "openai"}, "__MODEL is not set"),
        ({"kind": "openai", "model": "m", "options": {"edit_style": "x"}}, "__OPTIONS__EDIT_STYLE is 'x'"),
        ({"kind": "openai", "model": "m", "options": {"partial_images": 4}}, "__OPTIONS__PARTIAL_IMAGES is 4"),
        ({"kind": "openai", "model": "m", "options": {"prompt": "${input.0.url}"}}, "has no value here"),
        ({"kind": "replicate", "model": "flux"}, "__MODEL is 'flux'"),
        ({"kind": "replicate", "options": {"dialect": "cog"}}, "__URL is not set, but must be the cog server's"),
    ],
)  # fmt: skip
def test_a_setting_that_can_not_work_is_refused_at_the_start_by_its_name(tmp_path, settings, says):
    assert says in refusal(tmp_path, **settings)


def test_a_provider_that_no_type_uses_is_not_looked_at(tmp_path):
    check_providers(Settings(data_dir=tmp_path, providers={"ai": {"kind": "http"}}))  # type: ignore[dict-item]
