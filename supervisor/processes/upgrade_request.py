"""The request of `darkroom upgrade` to a running `darkroom up` to replace its parts: a file in the data folder.

Both belong to the user who owns that folder, and no other user may read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import structlog

from supervisor.core.ids import new_ulid
from supervisor.objects.private_files import write_privately
from supervisor.processes.process_supervisor import Wanted

_NAME = "upgrade.json"

log = structlog.get_logger("supervisor")


def ask(data_dir: Path, argv: Mapping[str, tuple[str, ...]]) -> str:
    """Request to replace the running programs by these; the id of the renewal."""
    wanted = new_ulid()
    write_privately(data_dir / _NAME, orjson.dumps({"id": wanted, "argv": argv}).decode())
    return wanted


def take_back(data_dir: Path) -> None:
    """Withdraw a request that was not taken."""
    (data_dir / _NAME).unlink(missing_ok=True)


def take(data_dir: Path) -> Wanted | None:
    """The request, returned once."""
    path = data_dir / _NAME
    try:
        read = path.read_bytes()
        # before it is carried out: a file that can't be deleted would repeat the request again and again
        path.unlink()
    except OSError:
        return None
    try:
        asked = orjson.loads(read)
        return Wanted(str(asked["id"]), {name: tuple(map(str, argv)) for name, argv in asked["argv"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning("this is no request for an upgrade", path=str(path))
        return None
