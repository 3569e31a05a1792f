"""Each finished picture has a small one beside it, which never costs the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from PIL import Image

from actors.attempts.outputs import store_pictures
from actors.providers.base import Done, Job, MadeImage, MadeThumbnail
from supervisor.core.claim import Claim
from supervisor.core.shown_images import keys_of, shown_images
from supervisor.objects.local_files import LocalFiles
from supervisor.objects.object_store import StoreAway
from supervisor.pictures.child_process import ImageProcessDied
from supervisor.pictures.foreign_pictures import make_plain
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.pictures.thumbnails import write_thumbnail
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.providers.adapters import Adapters, images_of
from tests.support.providers.comfyui import accepted, settings_of


def made(picture: Image.Image, folder: Path) -> tuple[Image.Image, dict[str, Any]]:
    """The thumbnail as read back, and its description."""
    said = write_thumbnail(picture, folder / "small.webp")
    assert said is not None and said["path"] == str(folder / "small.webp")
    with Image.open(said["path"]) as opened:
        opened.load()
        assert opened.format == "WEBP" and opened.size == (said["width"], said["height"])
        return opened.copy(), said


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 768), (480, 360)),
        ((900, 1600), (270, 480)),
        ((480, 480), (480, 480)),
        ((300, 200), (300, 200)),
        ((20_000, 3), (480, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_thumbnail_has_480_pixels_on_its_long_side_and_never_more_than_its_picture(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    small, _ = made(Image.new("RGB", size, "teal"), tmp_path)
    assert small.size == expected and small.mode == "RGB"


def test_a_thumbnail_is_transparent_where_its_picture_is(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (1000, 500), (200, 40, 40, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 500, 500))
    small, _ = made(picture, tmp_path)
    assert small.mode == "RGBA"
    assert small.getpixel((100, 100))[3] == 0  # type: ignore[index]
    red, green, blue, alpha = cast("tuple[int, ...]", small.getpixel((400, 100)))
    assert alpha == 255 and red > 150 > 80 > green and blue < 80, "transparent pixels do not bleed into it"


@pytest.mark.parametrize("fault", [MemoryError(), OSError(28, "No space left on device"), ValueError("x")])
def test_a_thumbnail_that_can_not_be_made_is_none_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def write(self: Path, data: Any) -> None:
        with self.open("wb") as file:
            file.write(b"half")
        raise fault

    monkeypatch.setattr(Path, "write_bytes", write)
    assert write_thumbnail(Image.new("RGB", (900, 900)), tmp_path / "small.webp") is None
    assert list(tmp_path.iterdir()) == []


def test_a_services_picture_gets_a_thumbnail_where_one_is_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "answer"
    Image.new("RGB", (1200, 900), "olive").save(source, "PNG")
    request = {"files": [{"n": 2, "path": str(source)}], "out": str(tmp_path), "most_pixels": 0}
    (plain,) = make_plain(request, lambda pixels: None)
    assert plain["thumbnail"] is None
    (plain,) = make_plain({**request, "thumbnails": True}, lambda pixels: None)
    assert plain["thumbnail"] == {"path": str(tmp_path / "2-thumbnail.webp"), "width": 480, "height": 360}


# ── a paid picture is not lost for its thumbnail ──


async def test_a_child_that_dies_over_a_thumbnail_is_asked_for_the_picture_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = ImageProcesses.run, list[bool]()

    async def dies(self: Any, request: Any, *rest: Any, **options: Any) -> Any:
        asked.append(request["thumbnails"])
        if request["thumbnails"]:
            raise ImageProcessDied("The image process ended in the middle of its work.")
        return await run(self, request, *rest, **options)

    monkeypatch.setattr(ImageProcesses, "run", dies)
    with ComfyUi() as comfy:
        async with Adapters(tmp_path) as adapters:
            provider = adapters.open(settings_of(comfy, tmp_path))
            remote = await accepted(adapters, provider)
            comfy.start()
            comfy.finish_with({"9": {"images": [{"filename": "red.png", "subfolder": "", "type": "output"}]}})
            (image,) = images_of(await adapters.poll(provider, remote))
    assert asked == [True, False] and image.thumbnail is None and image.path.exists()


class _RefusesThumbnails(LocalFiles):
    def put(self, key: str, file: BinaryIO) -> None:
        if key.endswith(".webp"):
            raise self.fault
        super().put(key, file)

    fault: Exception = StoreAway("There is no room.")


class _AtOnce:
    async def when_stored(self, act: Any) -> Any:
        return await act()


class _Worker:
    def __init__(self, files: LocalFiles) -> None:
        self.files = files


def _done(folder: Path) -> Done:
    Image.new("RGB", (8, 6)).save(folder / "0.jpg", "JPEG")
    Image.new("RGB", (8, 6)).save(folder / "0-thumbnail.webp", "WEBP")
    return Done((MadeImage(0, folder / "0.jpg", 8, 6, MadeThumbnail(folder / "0-thumbnail.webp", 8, 6)),))


async def _stored(files: LocalFiles, folder: Path) -> Any:
    claim = cast(Claim, type("Claim", (), {"task_id": "t-1", "charge": 1, "lease": 3}))
    job = cast(Job, type("Job", (), {"pictures": (0,), "folder": folder}))
    (file,) = await store_pictures(
        cast(Any, _Worker(files)), claim, _done(folder), cast(Any, _AtOnce()), job=job
    )
    return file


async def test_a_thumbnail_lies_beside_its_picture(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "files")
    file = await _stored(files, tmp_path)
    assert file.shown() == {
        "key": "results/t-1/1-3-0.jpg", "width": 8, "height": 6,
        "thumbnail": {"key": "results/t-1/1-3-0-thumbnail.webp", "width": 8, "height": 6},
    }  # fmt: skip
    assert sorted(each.key for each in files.listing("results")) == sorted(keys_of([file.shown()]))


@pytest.mark.parametrize("fault", [StoreAway("There is no room."), OSError(5, "I/O error"), ValueError("x")])
async def test_a_picture_does_not_wait_for_a_store_that_takes_no_thumbnail(
    tmp_path: Path, fault: Exception
) -> None:
    files = _RefusesThumbnails(tmp_path / "files")
    files.fault = fault
    file = await _stored(files, tmp_path)
    assert file.shown() == {"key": "results/t-1/1-3-0.jpg", "width": 8, "height": 6}
    assert [each.key for each in files.listing("results")] == ["results/t-1/1-3-0.jpg"]


# ── as it is shown ──


def test_a_picture_from_before_there_were_thumbnails_shows_null() -> None:
    stored = [{"key": "r/1.jpg", "width": 3, "height": 4}]
    assert shown_images(stored, "/{}".format) == [
        {"url": "/r/1.jpg", "width": 3, "height": 4, "thumbnail": None}
    ]
    assert list(keys_of(stored)) == ["r/1.jpg"]


def test_a_thumbnail_has_a_link_of_its_own() -> None:
    small = {"key": "r/1-thumbnail.webp", "width": 2, "height": 2}
    stored = [{"key": "r/1.jpg", "width": 3, "height": 4, "thumbnail": small}]
    (shown,) = shown_images(stored, "/{}".format)
    assert shown["thumbnail"] == {"url": "/r/1-thumbnail.webp", "width": 2, "height": 2}
    assert list(keys_of(stored)) == ["r/1.jpg", "r/1-thumbnail.webp"]
    assert stored[0]["thumbnail"] is small and "url" not in small, "the stored document is not touched"
