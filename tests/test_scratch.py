"""Scratch folders of workers that were killed are removed by the next worker, and nobody else's."""

from __future__ import annotations

from pathlib import Path

from actors.scratch import close_scratch, open_scratch


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
