"""The `replicate` provider's dialect `cog`, against the real cog server with a real predictor."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.providers.base import (
    Accepted,
    AtCapacity,
    ContentRejected,
    Failed,
    Lost,
    NotReady,
    ProviderDown,
    ProviderError,
    Report,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
    Unreachable,
    Unreadable,
)
from supervisor.store.remote import remote_reports
from tests.support.fakes.fake_ai_service import FakeAiService, Reply
from tests.support.pictures import picture
from tests.support.providers.adapters import Adapters, colour_of, error_of, images_of
from tests.support.servers.cog_server import CogServer

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="cog has wheels for Linux alone"),
]


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    with CogServer(tmp_path_factory.mktemp("cog")) as server:
        yield server


@pytest.fixture
async def adapters(tmp_path: Path, cog: CogServer) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened
    await until("the server is free again", lambda: cog.state() == "READY")


async def until(claim: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110  it is another process's
            await asyncio.sleep(0.02)


def settings_of(cog: CogServer, mode: str = "sync", **given: Any) -> dict[str, Any]:
    return {
        "kind": "replicate",
        "url": cog.url,
        "mode": mode,
        "options": {"dialect": "cog", "input": {"image": "${input.0.data_uri}", **given}},
        "allow_private_addresses": True,
    }


def photo(adapters: Adapters, colour: str) -> dict[str, Any]:
    """An order's input of one colour."""
    file = adapters.folder / "photo.png"
    file.write_bytes(picture(colour))
    return {"inputs": (file,), "input_keys": ("uploads/photo.png",)}


async def test_a_prediction_comes_back_on_the_held_connection(cog, adapters):
    said = await adapters.submit(adapters.open(settings_of(cog)), adapters.job(**photo(adapters, "yellow")))
    (image,) = images_of(said)
    assert (colour_of(image), image.width, image.height) == ("blue", 64, 64)  # yellow inside out


@pytest.mark.parametrize(
    "more, at_once",
    [({}, 1), ({"n": "${count}"}, 0), ({"n": "${params.count}"}, 0)],
    ids=["it makes one", "it is told how many", "it is told how many were ordered"],
)
def test_a_server_without_a_picture_count_is_asked_for_each(cog, adapters, more, at_once):
    assert adapters.open(settings_of(cog, **more)).pictures_per_request == at_once


async def test_a_model_that_fails_answers_200_and_is_a_failure(cog, adapters):
    found = error_of(await adapters.submit(adapters.open(settings_of(cog, fail=True))))
    assert type(found) is ProviderError and "no such thing" in found.message
    await until("the server is free again", lambda: cog.state() == "READY")  # it answers before it is
    found = error_of(await adapters.submit(adapters.open(settings_of(cog, fail=True, seconds=0.01))))
    assert type(found) is ContentRejected


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
        "Unable to allocate 2.00 GiB for an array with shape (32768, 8192) and data type float64",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes.",
        "Failed to allocate memory for requested buffer of size 2147483648",
        "-",
    ],
    ids=["torch", "cuda", "torch's cpu", "numpy", "jax", "onnxruntime", "python"],
)
async def test_a_model_without_memory_is_tried_again(cog, adapters, words):
    found = error_of(await adapters.submit(adapters.open(settings_of(cog, full=words))))
    assert isinstance(found, Transient), f"{type(found).__name__}: {found.message}"
    await until("the server is free again", lambda: cog.state() == "READY")
    assert not isinstance(
        error_of(await adapters.submit(adapters.open(settings_of(cog, fail=True)))), Transient
    )
    await until("the server is free again", lambda: cog.state() == "READY")


async def test_a_second_prediction_waits_for_room_and_closing_the_connection_cancels_the_first(cog, adapters):
    slow = adapters.open(settings_of(cog, seconds=30))
    cog.forget_runs()
    first = asyncio.create_task(adapters.submit(slow))
    await until("the server is busy", lambda: cog.state() == "BUSY" and cog.has_begun())
    assert isinstance(await adapters.submit(slow), AtCapacity)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await until("the server is free again", lambda: cog.state() == "READY")


async def test_no_answer_in_time_is_an_unknown_outcome(cog, adapters):
    provider = adapters.open(settings_of(cog, seconds=30))
    assert isinstance(await adapters.submit(provider, adapters.job(ai_timeout_seconds=0.5)), UnknownOutcome)


async def test_a_prediction_that_was_handed_in_ends_by_the_servers_report(cog, adapters):
    with FakeAiService(lambda asked: Reply()) as us:
        provider = adapters.open(settings_of(cog, "callback"))
        assert provider.hands_in
        order = adapters.job(**photo(adapters, "yellow"), callback_url=f"{us.url}/v1/callbacks/token")
        remote = await adapters.submit(provider, order)
        assert isinstance(remote, Accepted)
        await until("the server reports", lambda: bool(us.asked))
        (asked,) = us.asked
        assert (asked.path, asked.document["id"]) == ("/v1/callbacks/token", remote.remote_id)
        report = Report({}, json.dumps(asked.document).encode())
        (image,) = images_of(await provider.parse_callback(remote, order, report))
        assert colour_of(image) == "blue"
        # A worker that died before it could store the id: the report alone is enough.
        images_of(await provider.parse_callback(Accepted(""), order, report))


async def test_a_running_prediction_can_be_cancelled_and_a_strange_one_is_over(cog, adapters):
    with FakeAiService(lambda asked: Reply()) as us:
        provider = adapters.open(settings_of(cog, "callback", seconds=30))
        order = adapters.job(callback_url=f"{us.url}/x")
        cog.forget_runs()
        remote = await adapters.submit(provider, order)
        assert isinstance(await adapters.poll(provider, remote), Running)
        await until("it runs", cog.has_begun)
        assert await provider.cancel(remote)
        await until("the server reports", lambda: bool(us.asked))
        report = Report({}, json.dumps(us.asked[0].document).encode())
        said = await provider.parse_callback(remote, order, report)
        assert isinstance(said, Failed) and "cancelled" in said.error.message
        assert await provider.cancel(Accepted("nobody"))


async def test_a_server_that_was_started_anew_has_lost_the_job_and_a_dead_one_is_asked_again(cog, adapters):
    provider = adapters.open(settings_of(cog, "callback", seconds=30))
    remote = await adapters.submit(provider, adapters.job(callback_url="http://127.0.0.1:9/x"))
    assert isinstance(remote, Accepted)
    cog.kill()
    assert type(await adapters.poll(provider, remote)) is Unreachable
    later = adapters.job(callback_url="http://127.0.0.1:9/x")
    assert type(await adapters.submit(provider, later)) is Unreachable
    await asyncio.to_thread(cog.start)
    lost = error_of(await adapters.poll(provider, remote))
    assert isinstance(lost, Lost) and lost.sure_after_seconds == 30  # a report may be on its way


def test_the_predictors_picture_is_really_made_of_the_given_one(cog):
    """The server called by plain HTTP, without our adapter."""
    import urllib.request

    uri = "data:image/png;base64," + base64.b64encode(picture("white")).decode()
    body = json.dumps({"input": {"image": uri}}).encode()
    request = urllib.request.Request(f"{cog.url}/predictions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        document = json.load(answer)
    assert document["status"] == "succeeded" and document["output"].startswith("data:image/png;base64,")


async def test_a_server_that_is_starting_takes_no_order_yet_and_one_whose_setup_failed_never_will(
    adapters, cog
):
    """It answers 503 "wait" to both."""
    provider = adapters.open(settings_of(cog))
    cog.kill()
    try:
        await asyncio.to_thread(cog.start, "waits", "STARTING")
        starting = await adapters.submit(provider)
        assert type(starting) is NotReady and isinstance(starting, AtCapacity)
        cog.kill()
        await asyncio.to_thread(cog.start, "fails", "SETUP_FAILED")
        failed = await adapters.submit(provider)
        assert type(failed) is ProviderDown and "weights/model.safetensors is not there" in failed.message
        reporting = adapters.open(settings_of(cog, "callback"))
        handed_in = error_of(await adapters.poll(reporting, Accepted("p-1")))
        assert type(handed_in) is ProviderDown and "could not be loaded" in handed_in.message
    finally:
        cog.let_setup_end()
        cog.kill()
        await asyncio.to_thread(cog.start)


async def test_a_report_that_was_too_large_ends_the_job_at_once_with_what_to_set(cog, adapters):
    provider = adapters.open(settings_of(cog, "callback"))
    said = await provider.parse_callback(
        Accepted("p-1"), adapters.job(), Report(remote_reports.TOO_LARGE, b"")
    )
    assert type(said) is Failed and type(said.error) is ResultLost and "--upload-url" in said.error.message


async def test_health_that_says_nothing_is_no_cog_server(adapters, cog):
    with FakeAiService(lambda asked: Reply(document={"ok": True})) as other:
        provider = adapters.open(settings_of(cog, "callback") | {"url": other.url})
        assert type(await adapters.poll(provider, Accepted("p-1"))) is Unreadable
