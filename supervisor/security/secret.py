"""The secret that signs tokens and file links: the one configured, or one made once and kept in the data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from config.secret_strength import MAY_BE, weakness
from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.objects.private_files import make_private_folder

FILE_NAME = "secret"


def read_or_make_secret(settings: Settings) -> str:
    """The secret.  Makes `{data_dir}/secret`, mode 0600, if there is none; of several that try at once one wins.

    Raises OSError if the folder cannot be written, SettingFault for a file that holds what is no secret.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value()
    path = settings.data_dir / FILE_NAME
    kept = _read(path) or _make(path)
    if trouble := weakness(kept):
        raise SettingFault(f"The secret in {path} {trouble}, but {MAY_BE}. Delete the file to have one made.")
    return kept


def secret_before(settings: Settings) -> str | None:
    """The secret that was in use before: what it has signed is still good, and it signs nothing new."""
    return settings.secret_before.get_secret_value() if settings.secret_before is not None else None


def new_secret() -> str:
    """A secret that nobody can guess: 64 hexadecimal digits, 256 random bits."""
    return secrets.token_hex(32)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _make(path: Path) -> str:
    make_private_folder(path.parent)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".secret-")  # mkstemp's mode is 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(new_secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not _read(path):
            path.unlink()  # an empty file signs nothing
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, it never replaces a secret that somebody uses already
    finally:
        os.unlink(draft)
    return _read(path)
