"""What a service returns is compared with what was ordered before anything is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from actors.attempts.outputs import store_pictures
from actors.providers.base import Done, Job, MadeFile, MadeImage, MadeThumbnail, ProviderError, ResultLost
from supervisor.core.claim import Claim
from supervisor.objects.local_files import LocalFiles


class _AtOnce:
    async def when_stored(self, act: Callable[[], Any]) -> Any:
        return await act()


async def _stored(folder: Path, done: Done, pictures: tuple[int, ...] = (1, 2)) -> list[str]:
    """Keys of what was stored of a job for these pictures."""
    files = LocalFiles(folder / "files")
    claim = type("Claim", (), {"task_id": "t-1", "charge": 1, "lease": 3})
    job = type("Job", (), {"pictures": pictures, "folder": folder / "job"})
    worker = type("Worker", (), {"files": files})
    try:
        await store_pictures(
            cast(Any, worker), cast(Claim, claim), done, cast(Any, _AtOnce()), job=cast(Job, job)
        )
    finally:
        keys = [each.key for each in files.listing("results")]
    return keys


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A file in the folder of the job."""
    path = tmp_path / "job" / "made.png"
    path.parent.mkdir()
    path.write_bytes(b"made")
    (tmp_path / "secret").write_bytes(b"of the host")
    return path


async def test_pictures_that_were_ordered_are_stored(tmp_path: Path, made: Path) -> None:
    done = Done((MadeImage(2, made, 4, 3, MadeThumbnail(made, 2, 1)), MadeImage(1, made, 4, 3)))
    assert len(await _stored(tmp_path, done)) == 3


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (lambda made: Done((MadeImage(0, made, 4, 3),)), "a picture 0; one each of \\[1, 2\\] was ordered"),
        (lambda made: Done((MadeImage(3, made, 4, 3),)), "a picture 3"),
        (lambda made: Done((MadeImage(-1, made, 4, 3),)), "a picture -1"),
        (lambda made: Done((MadeImage(cast(Any, True), made, 4, 3),)), "a picture True"),
        (lambda made: Done((MadeImage(cast(Any, "1"), made, 4, 3),)), "a picture '1'"),
        (lambda made: Done((MadeImage(1, made, 4, 3), MadeImage(1, made, 4, 3))), "a picture 1"),
        (lambda made: Done((MadeImage(1, made, 0, 3),)), "picture 1 with a size that no picture has: 0 x 3"),
        (lambda made: Done((MadeImage(1, made, 4, cast(Any, 3.5)),)), "4 x 3.5"),
        (lambda made: Done((MadeImage(1, made, 10**12, 3),)), "1000000000000 x 3"),
        (lambda made: Done((MadeImage(1, made.parent.parent / "secret", 4, 3),)), "outside the folder"),
        (lambda made: Done((MadeImage(1, made / "../../secret", 4, 3),)), "outside the folder"),
        (
            lambda made: Done((MadeImage(1, made, 4, 3, MadeThumbnail(made.parents[1] / "secret", 1, 1)),)),
            "outside the folder",
        ),
        (lambda made: Done(files=(MadeFile(made.parents[1] / "secret"),)), "outside the folder"),
    ],
)  # fmt: skip
async def test_a_result_that_was_not_ordered_is_a_sentence_and_nothing_is_stored(
    tmp_path: Path, made: Path, result: Callable[[Path], Done], sentence: str
) -> None:
    with pytest.raises(ResultLost, match=sentence):
        await _stored(tmp_path, result(made))
    assert not (tmp_path / "files" / "results").exists()


async def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, made: Path) -> None:
    link = made.parent / "link.png"
    link.symlink_to(tmp_path / "secret")
    with pytest.raises(ResultLost, match="outside the folder"):
        await _stored(tmp_path, Done((MadeImage(1, link, 4, 3),)))


@pytest.mark.parametrize("message", ["", "   ", "\n"])
def test_an_error_without_a_word_says_its_kind(message: str) -> None:
    assert str(ProviderError(message)) == "The AI service failed with ProviderError, without a word."
    assert ResultLost(message).message.startswith("The AI service failed with ResultLost")
