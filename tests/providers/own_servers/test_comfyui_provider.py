"""The `comfyui` provider: a prompt under an id of our own, the history as the truth, and no connection held meanwhile.

The fake is our own reading of ComfyUI 0.3.64, which is no package that a test could install.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from actors.providers.base import (
    Accepted,
    Failed,
    InvalidInput,
    Lost,
    ProviderError,
    ResultGone,
    Running,
    Transient,
    Unreachable,
)
from actors.providers.comfyui.progress import WorkflowProgress
from actors.providers.comfyui.provider import BLANK
from actors.providers.comfyui.service import _warn_of_repetition
from supervisor.core.errors import SettingFault
from supervisor.core.task_params import BadTask, check_params
from tests.conftest import PARAMS
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.providers.adapters import PORTRAIT, Adapters, colour_of, error_of, images_of
from tests.support.providers.comfyui import WORKFLOW, accepted, settings_of


@pytest.fixture
def comfy() -> Iterator[ComfyUi]:
    with ComfyUi() as service:
        yield service


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


@pytest.fixture
def provider(adapters: Adapters, comfy: ComfyUi) -> Any:
    return adapters.open(settings_of(comfy, adapters.folder))


async def test_an_order_is_uploaded_queued_watched_and_collected(comfy, adapters, provider):
    remote = await accepted(adapters, provider)
    graph = comfy.graphs[remote.remote_id]
    assert comfy.uploads == {graph["1"]["inputs"]["image"]: PORTRAIT.read_bytes()}
    assert graph["1"]["inputs"]["image"] == f"darkroom/{remote.remote_id}-input-0.png"
    assert (graph["2"]["inputs"]["seed"], graph["3"]["inputs"]["text"]) == (7, "a portrait, by the sea")
    waiting = await adapters.poll(provider, remote)
    assert isinstance(waiting, Running) and waiting.stage == "number 1 in ComfyUI's queue"
    assert not comfy.listeners  # a prompt that waits in the queue has no progress, and holds no connection
    comfy.start()
    nodes = {
        "1": {"value": 1, "max": 1, "state": "finished"},
        "2": {"value": 9, "max": 20, "state": "running"},
    }
    comfy.messages = [{"type": "progress_state", "data": {"prompt_id": remote.remote_id, "nodes": nodes}}]
    running = await adapters.poll(provider, remote)
    assert isinstance(running, Running)
    assert (running.progress, running.stage) == (100 * 10 // 24, "running in ComfyUI")
    assert comfy.listeners == [remote.remote_id]
    comfy.finish()
    images = images_of(await adapters.poll(provider, remote))
    assert [(image.n, colour_of(image)) for image in images] == [(0, "red")]  # the preview is none


async def test_a_workflow_that_counts_makes_all_pictures_at_once_and_another_one_by_one(comfy, adapters):
    several = WORKFLOW | {"4": {"class_type": "EmptyLatentImage", "inputs": {"batch_size": "${count}"}}}
    provider = adapters.open(settings_of(comfy, adapters.folder, several))
    assert provider.pictures_per_request == 0
    order = adapters.job(pictures=(0, 2), count=3)
    remote = await provider.submit(order, adapters.report)
    assert comfy.graphs[comfy.start()]["4"]["inputs"]["batch_size"] == 2
    comfy.finish()
    images = images_of(await adapters.poll(provider, remote, order))
    assert [(image.n, colour_of(image)) for image in images] == [(0, "red"), (2, "blue")]
    single = adapters.open(settings_of(comfy, adapters.folder))
    assert single.pictures_per_request == 1
    other = await single.submit(adapters.job(pictures=(2,), reference="t-1.1.1.1"), adapters.report)
    assert (
        comfy.graphs[other.remote_id]["2"]["inputs"]["seed"] == 9
    )  # or its cache would give the same picture


async def test_a_request_is_found_by_our_own_name_for_it_and_one_that_never_arrived_is_not(
    comfy, adapters, provider
):
    order = adapters.job(inputs=(), input_keys=())
    assert await provider.look_up(order) is None
    remote = await accepted(adapters, provider)
    assert await provider.look_up(order) == remote
    comfy.start()
    assert await provider.look_up(order) == remote
    comfy.finish()
    assert await provider.look_up(order) == remote
    comfy.restart()
    assert await provider.look_up(order) is None


async def test_a_server_that_was_started_anew_has_lost_the_job(comfy, adapters, provider):
    remote = await accepted(adapters, provider)
    comfy.start()
    comfy.restart()
    said = await adapters.poll(provider, remote)
    assert isinstance(said, Failed) and isinstance(said.error, Lost)


async def test_a_cancel_takes_the_job_out_of_the_queue_and_stops_only_our_own(comfy, adapters, provider):
    remote = await accepted(adapters, provider)
    assert await provider.cancel(remote)
    assert not comfy.pending and not comfy.interrupted  # an older server would stop whatever runs
    again = await provider.submit(adapters.job(reference="t-1.1.2.0"), adapters.report)
    comfy.start()
    assert await provider.cancel(again)
    assert comfy.interrupted == [again.remote_id] and not comfy.running


@pytest.mark.parametrize(
    ("event", "said", "class_"),
    [
        ("execution_error", {"node_type": "KSampler", "exception_type": "ValueError"}, ProviderError),
        ("execution_error", {"exception_type": "torch.OutOfMemoryError"}, Transient),
        ("execution_error", {"exception_type": "numpy._core._exceptions._ArrayMemoryError"}, Transient),
        (
            "execution_error",
            {"exception_type": "RuntimeError", "exception_message": "CUDA error: out of memory"},
            Transient,
        ),
        ("execution_interrupted", {}, ProviderError),
    ],
)
async def test_a_failure_in_the_workflow_has_a_class(comfy, adapters, provider, event, said, class_):
    remote = await accepted(adapters, provider)
    comfy.start()
    comfy.fail(event, **said)
    polled = await adapters.poll(provider, remote)
    assert isinstance(polled, Failed) and type(polled.error) is class_
    assert "raceback" not in polled.error.message


async def test_a_workflow_that_is_refused_is_the_orders_fault_and_nothing_is_asked_again(
    comfy, adapters, provider
):
    comfy.refusal = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {
            "1": {"errors": [{"type": "custom_validation_failed", "message": "Invalid image file"}]}
        },
    }
    found = error_of(await adapters.submit(provider))
    assert isinstance(found, InvalidInput) and "Prompt outputs failed validation" in found.message
    assert comfy.paths("POST") == ["/upload/image", "/prompt", "/upload/image"], "the photo is overwritten"


@pytest.mark.parametrize(
    "outputs, is_refused",
    [([], True), (["8"], True), (["9"], False)],
    ids=["all", "the refused one", "another"],
)
async def test_a_workflow_of_which_a_part_is_refused_makes_no_order_with_less_than_it_names(
    comfy, adapters, outputs, is_refused
):
    """The answer of 0.3.64 when one of two saving nodes names a missing model: it runs the other one."""
    words = "ckpt_name: 'nobody.safetensors' not in []"
    comfy.node_errors = {
        "3": {"errors": [{"type": "value_not_in_list", "details": words}], "dependent_outputs": ["8"]}
    }
    opened = adapters.open(settings_of(comfy, adapters.folder, outputs=outputs))
    said = await adapters.submit(opened)
    if is_refused:
        assert isinstance(said, InvalidInput) and "nobody.safetensors" in said.message
        assert comfy.pending == [] and set(comfy.uploads.values()) == {BLANK}
    else:
        assert isinstance(said, Accepted) and len(comfy.pending) == 1


async def test_a_picture_that_is_not_shown_is_asked_for_again_and_not_made_again(comfy, adapters, provider):
    remote = await accepted(adapters, provider)
    comfy.start()
    comfy.finish()
    pictures = dict(comfy.pictures)
    comfy.pictures.clear()
    assert type(await adapters.poll(provider, remote)) is ResultGone
    comfy.pictures.update(pictures)
    assert images_of(await adapters.poll(provider, remote))


async def test_a_server_that_is_away_is_asked_again(comfy, adapters):
    provider = adapters.open(settings_of(comfy, adapters.folder) | {"url": "http://127.0.0.1:9"})
    assert type(await adapters.submit(provider)) is Unreachable
    assert type(await adapters.poll(provider, Accepted("p-1"))) is Unreachable


def test_progress_never_counts_messages_of_another_prompt():
    progress = WorkflowProgress("ours", 4)
    assert progress.percent() is None
    progress.take('{"type": "progress", "data": {"node": "2", "value": 5, "max": 20, "prompt_id": "theirs"}}')
    progress.take("not JSON")
    assert progress.percent() is None
    progress.take('{"type": "execution_cached", "data": {"nodes": ["1"], "prompt_id": "ours"}}')
    progress.take('{"type": "progress", "data": {"node": "2", "value": 5, "max": 20, "prompt_id": "ours"}}')
    assert progress.percent() == 100 * 6 // 23
    progress.take('{"type": "executed", "data": {"node": "2", "prompt_id": "ours"}}')
    assert progress.percent() == 100 * 21 // 23


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not valid JSON"),
        ('{"nodes": [], "links": []}', "no workflow in API format"),
        ('{"1": {"class_type": "LoadImage", "inputs": {"image": "${input.0.url}"}}}', "has no value here"),
    ],
)
async def test_a_workflow_that_can_not_work_is_refused_at_the_start(comfy, adapters, text, says):
    settings = settings_of(comfy, adapters.folder)
    (adapters.folder / "workflow.json").write_text(text, encoding="utf-8")
    with pytest.raises(SettingFault, match=says):
        adapters.open(settings)


FIXED = WORKFLOW | {"2": {"class_type": "KSampler", "inputs": {"seed": 42, "steps": 20}}}


async def test_nothing_of_a_users_photo_stays_in_comfyui_when_its_job_is_over(comfy, adapters, provider):
    """It deletes no input, so each is overwritten with a grey dot."""
    done, failed, cancelled = [await accepted(adapters, provider)], [], []
    comfy.start()
    comfy.finish()
    images_of(await adapters.poll(provider, done[0]))
    assert list(comfy.uploads.values()) == [BLANK]
    failed.append(await accepted(adapters, provider))
    assert PORTRAIT.read_bytes() in comfy.uploads.values()
    comfy.start()
    comfy.fail("execution_error", exception_type="ValueError")
    assert isinstance(await adapters.poll(provider, failed[0]), Failed)
    cancelled.append(await accepted(adapters, provider))
    assert await provider.cancel(cancelled[0])
    comfy.refusal = {"error": {"type": "invalid_prompt", "message": "no"}, "node_errors": {}}
    assert isinstance(await adapters.submit(provider), InvalidInput)
    assert set(comfy.uploads.values()) == {BLANK}


async def test_a_node_that_outputs_names_and_the_workflow_lacks_is_refused_at_the_start(comfy, adapters):
    with pytest.raises(SettingFault, match="OUTPUTS names node '99', but the workflow has 1, 2, 3, 8, 9"):
        adapters.open(settings_of(comfy, adapters.folder, outputs=["9", "99"]))


async def test_a_workflow_without_a_seed_is_warned_of_with_the_line_to_write(comfy, adapters):
    _warn_of_repetition.cache_clear()
    with structlog.testing.capture_logs() as logged:
        adapters.open(settings_of(comfy, adapters.folder, FIXED))
    (warning,) = [each for each in logged if each["event"] == "workflow_repeats_itself"]
    assert 'write "seed": "${seed}" in node 2 (KSampler)' in warning["advice"]


async def test_fixed_seeds_are_replaced_when_that_is_asked_for(comfy, adapters):
    provider = adapters.open(settings_of(comfy, adapters.folder, FIXED, randomize_seeds=True))
    seeds = []
    for n in range(2):
        await provider.submit(adapters.job(pictures=(n,), count=2, reference=f"t-1.1.1.{n}"), adapters.report)
        seeds.append(comfy.graphs[comfy.start()]["2"]["inputs"]["seed"])
    assert seeds == [7, 8]


@pytest.mark.parametrize(("more", "refused"), [({}, True), ({"randomize_seeds": True}, False)])
def test_several_pictures_of_a_workflow_that_repeats_itself_are_refused_at_admission(
    comfy, adapters, more, refused
):
    settings = adapters.settings(settings_of(comfy, adapters.folder, FIXED, **more))
    check_params("photography", PARAMS | {"count": 1}, settings)
    if refused:
        with pytest.raises(BadTask) as bad:
            check_params("photography", PARAMS | {"count": 2}, settings)
        assert "the workflow of ai has no ${seed}" in str(bad.value.errors)
    else:
        check_params("photography", PARAMS | {"count": 2}, settings)
