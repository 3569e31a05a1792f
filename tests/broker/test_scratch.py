"""The next worker removes the scratch folders of killed workers, and no others."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.entry.claim_handlers import WORK
from actors.files.scratch import close_scratch, found_in, open_scratch, scratch_of
from actors.worker.worker import Worker
from supervisor.objects.open_store import open_file_store
from tests.conftest import Store


def test_the_folder_of_a_killed_worker_is_removed_and_that_of_a_running_one_is_kept(tmp_path: Path) -> None:
    for name in ("killed", "living"):
        (open_scratch(tmp_path, name, frozenset()) / "attempt").mkdir()
    own = open_scratch(tmp_path, "new", found_in(tmp_path) - {"living"})
    assert found_in(tmp_path) == {"living", "new"}
    assert (tmp_path / "scratch" / "living" / "attempt").is_dir()
    close_scratch(own)
    assert found_in(tmp_path) == {"living"}


async def test_a_worker_keeps_its_folder_when_another_starts_at_the_same_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = [
        Worker(store.settings, None, store.database, open_file_store(store.settings), WORK)  # type: ignore[arg-type]
        for _ in range(2)
    ]
    first, second = made
    write = store.database.write_async

    async def answer_late(step: Any, **options: Any) -> Any:
        """The first has read the running workers; before its answer arrives, the second starts completely."""
        monkeypatch.setattr(store.database, "write_async", write)
        answer = await write(step, **options)
        await second.start()
        return answer

    monkeypatch.setattr(store.database, "write_async", answer_late)
    await first.start()
    assert found_in(store.settings.data_dir) == {first.id, second.id}
    monkeypatch.setattr(store.database, "close", lambda: None)  # both have the fixture's
    for worker in made:
        await worker.close()
    assert not found_in(store.settings.data_dir)


def test_a_scratch_folder_is_private(tmp_path: Path) -> None:
    assert open_scratch(tmp_path, "w", frozenset()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("held", [(), ("input-0", "picture.png")], ids=["empty", "with files"])
async def test_an_attempts_folder_is_its_own_and_goes_with_it(tmp_path: Path, held: tuple[str, ...]) -> None:
    async with scratch_of(tmp_path, "task-1") as scratch, scratch_of(tmp_path, "task-2") as another:
        for name in held:
            (scratch.folder / name).write_bytes(b"x")
        assert scratch.folder.stat().st_mode & 0o077 == 0
        assert another.folder != scratch.folder
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


async def test_an_attempt_that_writes_nothing_makes_no_folder(tmp_path: Path) -> None:
    async with scratch_of(tmp_path, "task-1") as scratch:
        assert await scratch.when_there_is_room(said) == "said"
        assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        (scratch.folder / "late.png").write_bytes(b"x")
    assert not list(tmp_path.iterdir())


async def said() -> str:
    return "said"


async def test_a_folder_for_which_a_full_disk_has_no_room_is_made_when_there_is(
    tmp_path: Path,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def again(act: Callable[[], Awaitable[Any]], /) -> Any:
        with pytest.raises(OSError, match="No space"):
            await act()
        there_is_room.undo()
        return await act()

    there_is_room = pytest.MonkeyPatch()
    there_is_room.setattr(Path, "mkdir", full)
    async with scratch_of(tmp_path, "task-1", again) as scratch:
        path = scratch.folder / "picture.png"
        assert await scratch.when_there_is_room(lambda: asyncio.to_thread(path.write_bytes, b"x")) == 1
    assert not list(tmp_path.iterdir())
