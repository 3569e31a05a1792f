"""Scratch folders of workers that were killed are removed by the next worker, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.scratch import close_scratch, folder_of_attempt, open_scratch


def test_what_a_killed_worker_left_is_removed_and_a_living_ones_is_kept(tmp_path: Path) -> None:
    for name in ("killed", "living"):
        (open_scratch(tmp_path, name, {"killed", "living"}) / "attempt").mkdir()
    own = open_scratch(tmp_path, "new", {"living"})
    assert sorted(path.name for path in own.parent.iterdir()) == ["living", "new"]
    assert (tmp_path / "scratch" / "living" / "attempt").is_dir()
    close_scratch(own)
    assert sorted(path.name for path in own.parent.iterdir()) == ["living"]


def test_a_scratch_folder_is_private(tmp_path: Path) -> None:
    assert open_scratch(tmp_path, "w", set()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("held", [(), ("input-0", "picture.png")], ids=["empty", "with files"])
async def test_an_attempts_folder_is_its_own_and_goes_with_it(tmp_path: Path, held: tuple[str, ...]) -> None:
    async with folder_of_attempt(tmp_path, "task", 1) as folder, folder_of_attempt(tmp_path, "task", 2):
        for name in held:
            (folder / name).write_bytes(b"x")
        assert folder.stat().st_mode & 0o077 == 0
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())
