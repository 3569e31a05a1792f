"""How `darkroom upgrade` asks a running `darkroom up` to replace its parts: by a file in the data folder.

Both are of one user, whom that folder belongs to and nobody else may look into it.
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
    """Ask for these programs in place of those that run; the id of the renewal."""
    wanted = new_ulid()
    write_privately(data_dir / _NAME, orjson.dumps({"id": wanted, "argv": argv}).decode())
    return wanted


def take_back(data_dir: Path) -> None:
    """Nobody has taken it, and nobody shall."""
    (data_dir / _NAME).unlink(missing_ok=True)


def take(data_dir: Path) -> Wanted | None:
    """What was asked for, once."""
    path = data_dir / _NAME
    try:
        read = path.read_bytes()
        path.unlink()  # before it is carried out: what can't be taken away would be asked for again and again
    except OSError:
        return None
    try:
        asked = orjson.loads(read)
        return Wanted(str(asked["id"]), {name: tuple(map(str, argv)) for name, argv in asked["argv"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning("this is no request for an upgrade", path=str(path))
        return None
