"""Enter a program that is not ours so that what it says itself looks like every other line of the log.

Both speak before they import anything of ours: periodiq as it starts, dramatiq's parent process when a worker dies.
The files in `programs/` are named after them, because a process is known by what `ps` shows.  The formatter is loaded
with the first line: dramatiq's parent mostly says none, and stays 10 MB smaller than a process that has loaded it.
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import NoReturn

from supervisor.processes.collector import spare_the_imports

PROGRAMS = Path(__file__).parent / "programs"

FAILED_IMPORT = 1  # to be started again
# Where each begins, and the name of our part that it runs.
_BEGINS = {
    "dramatiq": ("dramatiq.__main__", "main", "worker"),
    "periodiq": ("periodiq", "entrypoint", "scheduler"),
}


def enter(name: str) -> NoReturn:
    """Become the program of this name, arguments and all."""
    spare_the_imports()
    module, function, part = _BEGINS[name]
    logging.getLogger().addHandler(
        _SetUpByTheFirstLine(part)
    )  # the root's level lets warnings through, no less
    sys.argv[0] = str(Path(sys.executable).with_name(name))  # dramatiq starts itself again by it, at a SIGHUP
    if name == "dramatiq":
        # Its status for any import that has failed is the one that we keep for wrong settings, after which nobody
        # starts a part again; half an upgrade, or a library that was not there yet, must not look like that.
        importlib.import_module("dramatiq.cli").RET_IMPORT = FAILED_IMPORT  # type: ignore[attr-defined]
    sys.exit(getattr(importlib.import_module(module), function)())


class _SetUpByTheFirstLine(logging.Handler):
    """Gives way to the real handler as soon as there is something to say."""

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
        except SettingsError:  # the program says so itself as soon as it imports what is ours
            return
        if record.levelno >= root.level:
            root.handle(record)
