"""A process that has imported what the parts of `darkroom up` share, and forks itself for each part.

The memory of imported modules then exists once, and a part starts without importing them.  A forked part is what the
same command line would make of a new process: it has a session of its own, its environment, its folder, its descriptors
and its line in `ps`, and it runs the same script.

This process has one thread only and runs nothing of the parts, so a fork finds no lock held.  It forks twice and the
process between ends, so the parent of a part is `darkroom up`, which adopts orphans (`supervisor.processes.child`).  A
part runs nothing before `darkroom up` has its pid and says so; if it is not heard, the part ends.

The other end is `supervisor.processes.forked_parts`.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from supervisor.processes.garbage_collection import spare_the_imports
from supervisor.processes.lean_imports import import_lean
from supervisor.processes.parent_death import COULD_NOT_BE_STARTED, die_with_parent
from supervisor.processes.process_title import set_process_title

LONGEST_ORDER = 1 << 17  # bytes; a socket takes more in one message
MOST_DESCRIPTORS = 16
READY = b"ready"
_ABOVE_ALL = 512  # descriptors are moved there before they get their numbers
_ADOPTED_SECONDS = 5.0
_M_ARENA_MAX = -8  # of malloc.h


@dataclasses.dataclass(frozen=True)
class Order:
    """A part to be forked.  numbers: of the descriptors that come with the order, as the part knows them."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: str
    numbers: tuple[int, ...]

    def encoded(self) -> bytes:
        """As bytes; JSON in ASCII, because variables may hold any bytes."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @staticmethod
    def decoded(said: bytes) -> Order:
        """The order of `encoded`."""
        order = json.loads(said)
        return Order(tuple(order["argv"]), order["environ"], order["cwd"], tuple(order["numbers"]))


def main(arguments: Sequence[str]) -> None:
    """Serve until the other end of the socket is closed.  In each part it returns only when the part has ended.

    arguments: names of modules, some with `:` and a function to be called once, then the number of the socket.
    """
    *modules, number = arguments
    asked = socket.socket(fileno=int(number))
    asked.set_inheritable(False)
    parent = os.getppid()
    _keep_few_arenas()
    spare_the_imports()
    import_lean()
    for name in modules:
        module, _, function = name.partition(":")
        imported = importlib.import_module(module)
        if function:
            getattr(imported, function)()
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("darkroom: a module starts a thread as it is imported, so parts are not forked")
    try:
        set_process_title(sys.orig_argv, os.environ)  # a part could do nothing about its failure
    except OSError as error:
        sys.exit(f"darkroom: a process can't set its line in ps here ({error}), so parts are not forked")
    gc.collect()
    _return_free_memory()
    gc.freeze()  # a collection in a part would write into pages that it shares
    asked.send(READY)
    while True:
        order, received, _, _ = socket.recv_fds(asked, LONGEST_ORDER, MOST_DESCRIPTORS)
        if not order:  # the other end is closed
            return
        go, *descriptors = received
        pid = _forked()
        if pid == 0:
            asked.close()
            _wait_for(go, parent)
            _become(Order.decoded(order), descriptors)
        for each in received:
            os.close(each)
        asked.send(str(pid).encode())


def _keep_few_arenas() -> None:
    """All threads of a part share one heap of the C library, if it can do that.  A heap for each thread would keep what
    was once used in it, and Python runs only one thread at a time."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _return_free_memory() -> None:
    """What was used only meanwhile goes back to the system, where the C library can do that."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forked() -> int:
    """The pid of a new orphan, which leads a session of its own; 0 in the orphan."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.write(writing, str(os.getpid()).encode())
        os.close(reading)
        os.close(writing)
        return 0
    os.close(writing)
    os.waitpid(between, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    return pid


def _wait_for(go: int, parent: int) -> None:
    """Until `darkroom up` is our parent and knows us."""
    if not os.read(go, 1):
        os._exit(COULD_NOT_BE_STARTED)
    os.close(go)
    until = time.monotonic() + _ADOPTED_SECONDS
    while os.getppid() != parent and time.monotonic() < until:
        time.sleep(0.001)
    die_with_parent(parent)


def _become(order: Order, descriptors: Sequence[int]) -> NoReturn:
    """Run the script of the order, as Python would run it in a new process."""
    above = max((_ABOVE_ALL, *order.numbers)) + 1
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for each, number in zip(moved, order.numbers, strict=True):
        os.dup2(each, number)
        os.close(each)
    for number in (signal.SIGTERM, signal.SIGHUP):  # `nohup`, or a shell's `&`, has some of them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order.environ)
    os.chdir(order.cwd)
    set_process_title(_as_executed(order.argv), order.environ)
    is_python = order.argv[0] == sys.executable
    sys.argv = list(order.argv[1:] if is_python else order.argv)
    sys.path[0] = str(Path(sys.argv[0]).parent)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except FileNotFoundError as error:
        if error.filename != sys.argv[0]:
            raise
        print(f"darkroom: {sys.argv[0]} could not be started: {error.strerror}", file=sys.stderr)
        sys.exit(COULD_NOT_BE_STARTED)
    sys.exit(0)


def _as_executed(argv: Sequence[str]) -> list[str]:
    """The kernel puts the interpreter before a script."""
    return [*([] if argv[0] == sys.executable else [sys.executable]), *argv]
