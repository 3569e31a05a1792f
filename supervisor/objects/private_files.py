"""Files and folders that only their owner can read, under any umask.

A database that other users' programs write to by SQL is in a separate folder outside the data folder, with the
set-group-id bit (`chmod 2770`), and that folder's group shares it.  SQLite gives -wal and -shm the database's mode.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import is_postgres

PRIVATE_FOLDER, PRIVATE_FILE, SHARED_FILE = 0o700, 0o600, 0o660
PRIVATE_UMASK = 0o077

# The parts' own files in the data folder beside the database; other files there are left alone.
OURS = ("secret", "start-secret", "url", "processes.json", "up.lock", "broker.log", "files", "scratch")
_BESIDE_A_DATABASE = ("", "-wal", "-shm", "-journal", ".lock", ".migrate")

log = logging.getLogger("darkroom.files")


def keep_to_ourselves(settings: Settings) -> None:
    """Make new files of this process and its children private, and remove other users' rights from existing ones.

    Makes the data folder.  Raises SettingFault if it can't be made.
    """
    os.umask(PRIVATE_UMASK)
    try:
        make_private_folder(settings.data_dir)
    except OSError as error:
        raise SettingFault(
            f"DARKROOM_DATA_DIR is '{settings.data_dir}', but may be a folder that can be made and written "
            f"({error.strerror})."
        ) from None
    for path, mode in [(settings.data_dir, PRIVATE_FOLDER), *_made_before(settings)]:
        _close_to_others(path, mode)


def make_private_folder(folder: Path) -> None:
    """Make a folder and its parents if they do not exist."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def make_database_file(path: Path, data_dir: Path) -> None:
    """Make an empty file, if there is none, with the mode that SQLite will keep."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        return
    path.chmod(_mode_of_database(path, data_dir))  # under any umask


def write_privately(path: Path, text: str) -> None:
    """Replace a file in one step, so that no reader sees half of it, and only its owner can read it."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(draft, path)


def _made_before(settings: Settings) -> Iterator[tuple[Path, int]]:
    """(path, the most permissive mode that it may have)."""
    for name in OURS:
        # The owner may run a file that was executable.
        yield (
            settings.data_dir / name,
            PRIVATE_FOLDER,
        )
    if not is_postgres(settings.database_url):
        path = Path(settings.database_url.removeprefix("sqlite:///").partition("?")[0])
        mode = _mode_of_database(path, settings.data_dir)
        for suffix in _BESIDE_A_DATABASE:
            yield path.with_name(path.name + suffix), mode


def _mode_of_database(path: Path, data_dir: Path) -> int:
    folder = path.parent
    shares = folder != data_dir and folder.stat().st_mode & (stat.S_ISGID | stat.S_IWGRP) == (
        stat.S_ISGID | stat.S_IWGRP
    )
    return SHARED_FILE if shares else PRIVATE_FILE


def _close_to_others(path: Path, most: int) -> None:
    try:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink() or mode & 0o777 & ~most == 0:
            return
        if mode & stat.S_ISVTX:  # a shared folder, such as /tmp
            log.warning("%s is a public folder; set DARKROOM_DATA_DIR to one of its own", path)
            return
        path.chmod(mode & most)
        log.warning("%s was open to other users (mode %o); it is closed now (%o)", path, mode, mode & most)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s is open to other users and can't be closed: %s", path, error.strerror)
