"""Where the broker listens: the configured URL, or the unix socket of the embedded server."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from config.settings import Settings

SOCKET_NAME = "broker.sock"
LONGEST_SOCKET_PATH = 107  # bytes, one less than sockaddr_un holds


def broker_address(settings: Settings) -> str:
    """`redis://`, `rediss://` or `unix://…`.  Every process of a host finds the same address from the same settings."""
    return settings.broker_url or f"unix://{socket_path(settings.data_dir)}"


def socket_path(data_dir: Path) -> Path:
    """The embedded broker's socket: in the data folder, or in a short folder of this user if that path is too long."""
    path = data_dir / SOCKET_NAME
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"darkroom-{os.getuid()}-{name}" / SOCKET_NAME
