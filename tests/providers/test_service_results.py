"""The results that services really send: pictures among other files, drafts, texts, null, or nothing."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.providers.base import ContentRejected, Failed, ProviderError, ResultLost, Unreadable
from actors.providers.comfyui.history import end_of, place_in_queue
from actors.providers.comfyui.progress import WorkflowProgress
from actors.providers.common.answers import Answer, Rules, pictures_in
from actors.providers.common.event_stream import ServerEvent
from actors.providers.common.paths import parse_path
from actors.providers.common.picture_sources import At, source_of
from actors.providers.http import remote_jobs
from actors.providers.openai.events import StreamedAnswer
from actors.providers.openai.provider import BROKEN_STREAM
from actors.providers.replicate import predictions
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.fakes.openai_service import OpenAi
from tests.support.fakes.replicate_service import Replicate
from tests.support.pictures import picture
from tests.support.providers.adapters import Adapters, colour_of, error_of, images_of
from tests.support.providers.comfyui import WORKFLOW, accepted, settings_of
from tests.support.providers.provider_settings import openai_settings, replicate_settings

FILM = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(3000)


@pytest.fixture
def comfy() -> Iterator[ComfyUi]:
    with ComfyUi() as service:
        service.pictures |= {"clip.mp4": FILM, "film": FILM}
        yield service


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


def file(name: str, type_: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": "", "type": type_}


async def ended(comfy: ComfyUi, adapters: Adapters, made: Any, **options: Any) -> Any:
    """What a poll says of a prompt that has ended with these outputs."""
    provider = adapters.open(settings_of(comfy, adapters.folder, **options))
    remote = await accepted(adapters, provider)
    comfy.start()
    comfy.finish_with(made)
    return await adapters.poll(provider, remote)


# ── ComfyUI ──


@pytest.mark.parametrize("film", ["clip.mp4", "film"])
async def test_a_file_of_comfyui_that_is_no_picture_hides_none(comfy, adapters, film):
    outputs = {"8": {"images": [file(film)], "animated": [True]}, "9": {"images": [file("red.png")]}}
    assert [colour_of(image) for image in images_of(await ended(comfy, adapters, outputs))] == ["red"]


async def test_a_workflow_of_comfyui_that_makes_only_a_film_reports_no_picture(comfy, adapters):
    found = error_of(await ended(comfy, adapters, {"8": {"images": [file("clip.mp4")]}}))
    assert type(found) is ResultLost and "none of its files is a picture" in found.message


async def test_a_preview_of_comfyui_counts_where_its_node_is_named_and_nowhere_else(comfy, adapters):
    outputs = {"8": {"images": [file("blue.png", "temp")]}, "9": {"images": [file("red.png")]}}
    workflow = WORKFLOW | {"8": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}
    named = await ended(comfy, adapters, outputs, workflow=workflow, outputs=["8"])
    assert [colour_of(image) for image in images_of(named)] == ["blue"]
    both = await ended(comfy, adapters, outputs, workflow=workflow, outputs=["8", "9"])
    assert [colour_of(image) for image in images_of(both)] == ["red"], "saved pictures come first"
    assert isinstance(await ended(comfy, adapters, {"8": outputs["8"]}), Failed)


@pytest.mark.parametrize(
    "nothing", [None, [], "x", {"images": None}, {"images": [None]}, {"text": ["hello"]}]
)
async def test_an_output_of_comfyui_that_is_null_ends_the_job_or_is_passed_over(comfy, adapters, nothing):
    with_a_picture = await ended(comfy, adapters, {"8": nothing, "9": {"images": [file("red.png")]}})
    assert [colour_of(image) for image in images_of(with_a_picture)] == ["red"]
    assert type(error_of(await ended(comfy, adapters, {"8": nothing}))) is ProviderError
    assert type(error_of(await ended(comfy, adapters, nothing))) is ProviderError


# ── OpenAI's stream ──


@pytest.mark.parametrize("ending", ["cut", "broken", "hang"])
async def test_the_last_draft_of_a_stream_that_ends_too_early_is_kept_and_said_to_be_one(adapters, ending):
    with OpenAi() as service:
        service.stream_error = ending
        provider = adapters.open(openai_settings(service))
        said = await adapters.submit(
            provider, adapters.job(ai_timeout_seconds=3.0 if ending == "hang" else 20.0)
        )
        assert [colour_of(image) for image in images_of(said)] == ["green"], "the second of two drafts"
        assert adapters.progress[-1] == (90, BROKEN_STREAM)


@pytest.mark.parametrize("after", ["broken", "hang"])
async def test_a_complete_stream_counts_though_it_breaks_off_afterwards(adapters, after):
    with OpenAi() as service:
        service.after, provider = after, adapters.open(openai_settings(service))
        said = await adapters.submit(provider, adapters.job(ai_timeout_seconds=3.0))
        assert [colour_of(image) for image in images_of(said)] == ["blue"]
        assert adapters.progress[-1] == (90, "collecting the pictures")
        service.stream_error = "moderation_blocked"
        refused = error_of(await adapters.submit(provider, adapters.job(ai_timeout_seconds=3.0)))
        assert type(refused) is ContentRejected


async def test_a_stream_that_ends_with_its_picture_says_nothing_of_drafts(adapters):
    with OpenAi() as service:
        said = await adapters.submit(adapters.open(openai_settings(service)))
        assert [colour_of(image) for image in images_of(said)] == ["blue"]
        assert adapters.progress[-1] == (90, "collecting the pictures")


def test_a_completed_event_without_a_picture_hides_no_draft():
    streamed = StreamedAnswer(1)
    streamed.take(ServerEvent("message", json.dumps({"type": "x.partial_image", "b64_json": "abc"})))
    streamed.take(ServerEvent("message", json.dumps({"type": "x.completed", "b64_json": None})))
    assert streamed.is_draft and streamed.document() == {"data": [{"b64_json": "abc"}]}


@pytest.mark.parametrize(
    "text", ['"https://a.b/c?x=1\\u0026y=2"', '"https:\\/\\/a.b\\/c?x=1&y=2" ', '"https://a.b', '"x"']
)
def test_an_address_that_is_a_text_in_a_text_is_read_as_its_escapes_say(text):
    expected = At("https://a.b/c?x=1&y=2") if "y=2" in text else None
    assert source_of(text) == expected


# ── Replicate ──


@pytest.mark.parametrize("output", [None, [], "", {}])
async def test_replicate_that_has_removed_its_output_ends_the_job_and_says_so(adapters, output):
    with Replicate() as service:
        service.states, service.more = ["succeeded"], {"output": output, "data_removed": True}
        found = error_of(await adapters.ended(adapters.open(replicate_settings(service))))
        assert type(found) is ResultLost and "removed" in found.message, "never ordered again"


@pytest.mark.parametrize("shape", ["[%s]", '{"images": [%s]}', '{"image": %s}', '[{"url": %s}]', "%s", " %s"])
async def test_an_output_of_replicate_that_is_json_in_a_text_is_read(adapters, shape):
    with Replicate() as service:
        text = shape % (service.picture_url() if shape == " %s" else json.dumps(service.picture_url()))
        service.states, service.more = ["succeeded"], {"output": text}
        provider = adapters.open(replicate_settings(service, allow_private_addresses=True))
        assert [colour_of(image) for image in images_of(await adapters.ended(provider))] == ["red"]


async def test_a_file_of_replicate_that_is_no_picture_hides_none(adapters):
    with Replicate() as service:
        service.pictures |= {"clip.mp4": FILM, "data.json": b"{}"}
        urls = [service.picture_url(name) for name in ("clip.mp4", "data.json", "red.png", "blue.png")]
        service.states, service.more = ["succeeded"], {"output": urls}
        provider = adapters.open(replicate_settings(service, allow_private_addresses=True))
        assert [colour_of(image) for image in images_of(await adapters.ended(provider))] == ["red"]
        two = adapters.job(pictures=(0, 1), count=2)
        images = images_of(await adapters.ended(provider, two))
        assert [(image.n, colour_of(image)) for image in images] == [(0, "red"), (1, "blue")]
        service.more = {"output": urls[:2]}
        found = error_of(await adapters.ended(provider))
        assert type(found) is ResultLost and "no usable picture" in found.message


# ── any service ──


async def test_a_picture_with_much_beside_its_pixels_is_no_damage_as_a_result(adapters):
    plain = picture("green")
    content = b"workflow\0\0" + zlib.compress(b"{}" * 2_000_000)
    text = struct.pack(">I", len(content)) + b"zTXt" + content
    with Replicate() as service:
        service.pictures["red.png"] = plain[:33] + text + struct.pack(">I", zlib.crc32(text[4:])) + plain[33:]
        provider = adapters.open(replicate_settings(service, allow_private_addresses=True))
        assert [colour_of(image) for image in images_of(await adapters.ended(provider))] == ["green"]


@pytest.mark.parametrize("format_", ["HEIF", "AVIF", "WEBP", "GIF", "BMP"])
async def test_a_result_may_be_of_any_format(adapters, format_):
    from supervisor.pictures.normalise import know_formats

    know_formats()
    with Replicate() as service:
        service.pictures["red.png"] = picture("red", format_)
        provider = adapters.open(replicate_settings(service, allow_private_addresses=True))
        assert [colour_of(image) for image in images_of(await adapters.ended(provider))] == ["red"]


def test_a_path_continues_into_a_json_text_and_only_there():
    path = parse_path("$.data.images[0].url")
    assert path.find({"data": '{"images": [{"url": "a"}]}'}) == ["a"]
    assert path.find({"data": {"images": '[{"url": "a"}]'}}) == ["a"]
    for text in ("", "url", "{", "[1", '{"images": 1}', "[" * 100_000, '"images"'):
        assert path.find({"data": text}) == []
    assert parse_path("$.data").find({"data": "[1]"}) == ["[1]"]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["ours", "outputs", "9", "images", "status", "status_str", "messages", "type", "output", "error", "data",
             "queue_running", "queue_pending", "nodes", "node", "prompt_id", "url", "b64_json", "code", "logs", "state"]
        ),
        inner | st.sampled_from(["error", "output", "succeeded", "failed", "processing", "progress_state", "executed"]),
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
RULES = Rules(
    result=tuple(map(parse_path, ("$.output", "$.output[*]", "$.output.*"))), code=(parse_path("$.error"),)
)
JOB_RULES = remote_jobs.JobRules(parse_path("$.status"), {"succeeded": "done"}, progress=parse_path("$.data"))


@given(document=ANY_JSON)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_service_answers_no_adapter_breaks(document: Any) -> None:
    """An error of ours would be asked again, and raised again, until the job's time is over."""
    answer = Answer(200, {}, b"", document)
    judges = [
        lambda: end_of({"ours": document}, "ours", ()),
        lambda: end_of({"ours": {"outputs": document, "status": document}}, "ours", ("9",)),
        lambda: end_of({"ours": {"status": {"status_str": "error", "messages": document}}}, "ours", ()),
        lambda: place_in_queue(document, "ours"),
        lambda: place_in_queue({"queue_running": document, "queue_pending": [document]}, "ours"),
        lambda: predictions.judge(answer, RULES, now=0.0),
        lambda: remote_jobs.judge(answer, JOB_RULES, RULES, now=0.0),
        lambda: pictures_in(answer, RULES, now=0.0),
    ]
    for judge in judges:
        with contextlib.suppress(ProviderError):
            judge()
    streamed, progress = StreamedAnswer(2), WorkflowProgress("ours", 3)
    streamed.take(ServerEvent("message", json.dumps(document)))
    progress.take(json.dumps(document))
    progress.take(json.dumps({"type": "progress_state", "data": document}))
    progress.take(json.dumps({"type": "execution_cached", "data": {"nodes": document}}))
    assert streamed.document() is None or isinstance(streamed.document(), dict)
    assert progress.percent() is None or 0 <= (progress.percent() or 0) <= 99


def test_an_answer_of_comfyui_that_is_no_history_is_unreadable():
    for document in (None, [], {"ours": []}, {"ours": "x"}):
        with pytest.raises(Unreadable):
            end_of(document, "ours", ())
