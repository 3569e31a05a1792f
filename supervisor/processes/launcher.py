"""Start dramatiq or periodiq so that their own log lines have our format.

Both log before they import our code: periodiq when it starts, dramatiq's parent process when a worker dies.  The files
in `programs/` are named `dramatiq` and `periodiq`, because `ps` shows the file's name.  The formatter is loaded with
the first line: dramatiq's parent usually logs nothing, and stays 10 MB smaller without it.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import sys
from pathlib import Path
from typing import NoReturn

from supervisor.processes.garbage_collection import spare_the_imports
from supervisor.processes.lean_imports import import_lean

PROGRAMS = Path(__file__).parent / "programs"

FAILED_IMPORT = 1  # to be started again
# The entry point of each, and the name of the part that it runs.
_BEGINS = {
    "dramatiq": ("dramatiq.__main__", "main", "worker"),
    "periodiq": ("periodiq", "entrypoint", "scheduler"),
}


def enter(name: str) -> NoReturn:
    """Run the program of this name, with the arguments of this process."""
    spare_the_imports()
    import_lean()
    module, function, part = _BEGINS[name]
    # The root logger passes warnings, but nothing below.
    logging.getLogger().addHandler(_SetUpByTheFirstLine(part))
    # dramatiq uses it to start itself again at a SIGHUP
    sys.argv[0] = str(Path(sys.executable).with_name(name))
    if name == "periodiq" and (imported := sys.modules.get("actors")) is not None:
        imported.boot_scheduler()  # its import does this, but a forked process has imported it already
        # periodiq sets the root logger's level from this table as it starts, which is before it imports our code.
        importlib.import_module("periodiq").VERBOSITY[0] = logging.getLogger().level
    if name == "dramatiq":
        importlib.import_module("dramatiq.cli").Canteen = _Canteen  # type: ignore[attr-defined]
        # Its exit status for a failed import is our status for wrong settings, after which a part is not started again.
        # But an unfinished upgrade, or a library that is missing for a moment, must not count as wrong settings.
        importlib.import_module("dramatiq.cli").RET_IMPORT = FAILED_IMPORT  # type: ignore[attr-defined]
    sys.exit(getattr(importlib.import_module(module), function)())


class _Paths(ctypes.Array[ctypes.c_byte]):
    _length_, _type_ = 4096, ctypes.c_byte


class _Canteen(ctypes.Structure):
    """A small replacement for the shared memory in which dramatiq's middleware asks for further processes: ours asks
    for none, and dramatiq's own takes 1 MiB."""

    _fields_ = (("initialized", ctypes.c_bool), ("last_position", ctypes.c_int), ("paths", _Paths))


class _SetUpByTheFirstLine(logging.Handler):
    """Replaces itself by the real handler at the first line."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def emit(self, record: logging.LogRecord) -> None:
        from config.settings import SettingsError, load_settings
        from supervisor.telemetry.logs import configure_logs

        root = logging.getLogger()
        root.removeHandler(self)
        try:
            configure_logs(load_settings(), self._part)
        except SettingsError:  # the program reports that itself when it imports our code
            return
        if record.levelno >= root.level:
            root.handle(record)
