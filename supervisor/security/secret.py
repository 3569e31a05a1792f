"""The secret that signs tokens and file links: the configured one, or one that is made once and kept in the data
folder."""

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
    """The secret.  Makes `{data_dir}/secret`, mode 0600, if there is none; if several processes try at once, one wins.

    Raises OSError if the folder can't be written, SettingFault if the file does not hold a valid secret.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value()
    path = settings.data_dir / FILE_NAME
    kept = _read(path) or _make(path)
    if trouble := weakness(kept):
        raise SettingFault(f"The secret in {path} {trouble}, but {MAY_BE}. Delete the file to have one made.")
    return kept


def secret_before(settings: Settings) -> str | None:
    """The previous secret: its signatures are still valid, and it signs nothing new."""
    return settings.secret_before.get_secret_value() if settings.secret_before is not None else None


def new_secret() -> str:
    """A new secret: 64 hexadecimal digits, 256 random bits."""
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
            os.link(draft, path)  # unlike a rename, it never replaces an existing secret
    finally:
        os.unlink(draft)
    return _read(path)
