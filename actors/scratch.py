"""Scratch folders: one for each worker in the data folder, one in it for each attempt.

An attempt removes its own folder; a worker that is killed leaves its behind, and the next worker of this data folder
to start removes what belongs to nobody who lives.  Blocks; call it from a thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Set
from pathlib import Path

FOLDER = "scratch"


def open_scratch(data_dir: Path, worker_id: str, living: Set[str]) -> Path:
    """This worker's folder, made; those of workers that are not `living` are gone."""
    folder = data_dir / FOLDER
    own = folder / worker_id
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in folder.iterdir():
        if other != own and other.name not in living:
            shutil.rmtree(other, ignore_errors=True)
    return own


def close_scratch(folder: Path) -> None:
    """Remove a worker's folder."""
    shutil.rmtree(folder, ignore_errors=True)
