"""The secret that signs tokens and file links: the one configured, or one made once and kept in the data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from config.settings import Settings

FILE_NAME = "secret"


def read_or_make_secret(settings: Settings) -> str:
    """The secret.  Makes `{data_dir}/secret`, mode 0600, if there is none; of several that try at once one wins.

    Raises OSError if the folder cannot be written.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value()
    path = settings.data_dir / FILE_NAME
    return _read(path) or _make(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _make(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".secret-")  # mkstemp's mode is 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not _read(path):
            path.unlink()  # an empty file signs nothing
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, it never replaces a secret that somebody uses already
    finally:
        os.unlink(draft)
    return _read(path)
