"""The studio's adapter: jobs in, files or classed errors out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from actors.files.scratch import Scratch
from actors.providers.base import Done, InvalidInput, Job, Transient
from actors.providers.studio.provider import StudioProvider
from supervisor.pictures.normalise import know_formats
from supervisor.pictures.process_pool import ImageProcesses

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"


@pytest.fixture
async def provider() -> AsyncIterator[StudioProvider]:
    processes = ImageProcesses(1)
    opened = StudioProvider(processes)
    yield opened
    await opened.close()
    await processes.close()


def job(folder: Path, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "task_id": "t1", "type": "photography", "params": {"sceneId": "night"}, "inputs": (SAMPLES / "portrait.png",),
        "pictures": (1,), "count": 2, "seed": 9, "scratch": Scratch(folder), "ai_timeout_seconds": 60,
    }  # fmt: skip
    return Job(**(values | changes))


async def test_a_job_makes_the_missing_pictures(provider: StudioProvider, tmp_path: Path) -> None:
    seen: list[int] = []
    outcome = await provider.submit(job(tmp_path), lambda percent, stage: seen.append(percent))
    assert isinstance(outcome, Done)
    [image] = outcome.images
    assert image.n == 1
    with Image.open(image.path) as picture:
        assert picture.size == (image.width, image.height)
        assert max(picture.size) == 1024
    assert image.thumbnail is not None
    with Image.open(image.thumbnail.path) as small:
        assert small.format == "WEBP" and small.size == (image.thumbnail.width, image.thumbnail.height)
        assert max(small.size) == 480
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 99


async def test_a_fault_of_the_order_is_invalid_input_with_its_code(
    provider: StudioProvider, tmp_path: Path
) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 200), "grey").save(blank)
    with pytest.raises(InvalidInput) as caught:
        await provider.submit(job(tmp_path, inputs=(blank,)), lambda percent, stage: None)
    assert caught.value.code == "no_person_found" and not caught.value.retryable


async def test_a_fitting_without_a_garment_is_refused(provider: StudioProvider, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="2 pictures"):
        await provider.submit(job(tmp_path, type="fitting"), lambda percent, stage: None)


@pytest.mark.parametrize("asked", ["left", 0, 1.5, True, 13])
async def test_the_wearer_of_the_garment_is_a_whole_number(
    provider: StudioProvider, tmp_path: Path, asked: object
) -> None:
    wrong = job(
        tmp_path,
        type="fitting",
        inputs=(SAMPLES / "portrait.png", SAMPLES / "garment.png"),
        params={"parameters": {"person": asked}},
    )
    with pytest.raises(InvalidInput, match=r"parameters\.person must be a whole number") as caught:
        await provider.submit(wrong, lambda percent, stage: None)
    assert caught.value.code == "bad_params"


async def test_a_time_out_may_be_tried_again(provider: StudioProvider, tmp_path: Path) -> None:
    with pytest.raises(Transient) as caught:
        await provider.submit(job(tmp_path, ai_timeout_seconds=0.05), lambda percent, stage: None)
    assert caught.value.code == "ai_timeout" and caught.value.retryable


async def test_a_picture_that_was_given_by_its_address_may_be_of_any_format_an_upload_may_be(
    provider: StudioProvider, tmp_path: Path
) -> None:
    know_formats()
    photo = tmp_path / "input-0"
    with Image.open(SAMPLES / "portrait.png") as portrait:
        portrait.convert("RGB").save(photo, "HEIF")
    outcome = await provider.submit(
        job(tmp_path, inputs=(photo,), input_keys=(None,)), lambda percent, stage: None
    )
    assert isinstance(outcome, Done) and outcome.images
    photo.write_bytes(b"no picture")
    (tmp_path / "plain-0.jpg").unlink()
    with pytest.raises(InvalidInput) as refused:
        await provider.submit(job(tmp_path, inputs=(photo,), input_keys=(None,)), lambda percent, stage: None)
    assert refused.value.code == "image_unusable"
