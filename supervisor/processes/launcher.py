"""Start dramatiq or periodiq so that their own log lines have our format.

Both log before they import our code: periodiq when it starts, dramatiq's parent process when a worker dies.  The files
in `programs/` are named `dramatiq` and `periodiq`, because `ps` shows the file's name.  The formatter is loaded with
the first line: dramatiq's parent usually logs nothing, and stays 10 MB smaller without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NoReturn

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
        cli: Any = importlib.import_module("dramatiq.cli")
        cli.Canteen = _Canteen
        # Its exit status for a failed import is our status for wrong settings, after which a part is not started again.
        # But an unfinished upgrade, or a library that is missing for a moment, must not count as wrong settings.
        cli.RET_IMPORT = FAILED_IMPORT
        _let_the_parent_sleep(cli)
    sys.exit(getattr(importlib.import_module(module), function)())


class _Paths(ctypes.Array[ctypes.c_byte]):
    _length_, _type_ = 4096, ctypes.c_byte


class _Canteen(ctypes.Structure):
    """A small replacement for the shared memory in which dramatiq's middleware asks for further processes: ours asks
    for none, and dramatiq's own takes 1 MiB."""

    _fields_ = (("initialized", ctypes.c_bool), ("last_position", ctypes.c_int), ("paths", _Paths))


def _let_the_parent_sleep(cli: ModuleType) -> None:
    """dramatiq's parent process looks twice a second whether its worker has ended or said anything.

    Ours has one worker, and waits until the kernel tells it.
    """
    end = _Worker.end = _End()
    cli.multiprocessing = SimpleNamespace(  # type: ignore[attr-defined]
        **{
            **vars(multiprocessing),
            "Process": _Worker,
            "connection": SimpleNamespace(wait=end.wait_for_output),
        }
    )


class _End:
    """The end of the worker, for the thread that passes its output on."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._is_known = False

    def tell(self) -> None:
        """The worker has ended."""
        os.write(self._write, b"x")

    def wait_for_output(self, pipes: Sequence[Any], timeout: float) -> list[Any]:
        """The pipes that can be read.  timeout: in seconds; it counts once the worker has ended, as a process that it
        has left behind may hold its pipe."""
        if self._is_known:
            return multiprocessing.connection.wait(pipes, timeout)
        ready = multiprocessing.connection.wait([*pipes, self._read])
        self._is_known = self._read in ready
        return [pipe for pipe in ready if pipe != self._read]


class _Worker(multiprocessing.Process):
    """The process whose end its parent waits for, however short it means to wait."""

    end: ClassVar[_End]
    _told: list[int] | None = None  # descriptors: of signals to the parent, and of the end of the worker

    def join(self, timeout: float | None = None) -> None:
        """Until it has ended, or a signal has come.  timeout: in seconds; for systems that do not tell the end."""
        if self._told is None:
            self._told = [_told_of_signals(), *_told_of_end(self.pid)]
        ready = multiprocessing.connection.wait(self._told, timeout if len(self._told) == 1 else None)
        if self._told[0] in ready:
            os.read(self._told[0], 64)  # its handler runs now
        if self.exitcode is not None:
            super().join()
            self.end.tell()


def _told_of_signals() -> int:
    """Readable after a signal, also after one that comes just before a wait begins."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    return told


def _told_of_end(pid: int | None) -> list[int]:
    """Readable once the process has ended; nothing where the system has no such descriptors."""
    with contextlib.suppress(AttributeError, OSError):
        return [os.pidfd_open(pid or 0)]
    return []


class _SetUpByTheFirstLine(logging.Handler):
    """Replaces itself by the real handler at the first line."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def emit(self, record: logging.LogRecord) -> None:
        from config.load_settings import SettingsError, load_settings
        from supervisor.telemetry.logs import configure_logs

        root = logging.getLogger()
        root.removeHandler(self)
        try:
            configure_logs(load_settings(), self._part)
        except SettingsError:  # the program reports that itself when it imports our code
            return
        if record.levelno >= root.level:
            root.handle(record)
