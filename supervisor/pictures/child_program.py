"""The program that works on pictures, one request at a time: `python -m supervisor.pictures.child_program`.

It is a separate process because nothing can interrupt a thread inside image code, while a process can be killed, and
because it runs parsers on users' files, so it must hold no secret.  It reads one JSON object a line from stdin
and answers on stdout, until stdin ends:

    → {"id", "task": "upload", "most_pixels", "files_sent": 2}      two open files: the source, and an empty target
    → {"id", "task": "plain", "files": [{"n", "path"}], "out", "most_pixels", "name"?, "thumbnails"?}
                                                    (`plain_pictures`)
    ← {"id", "pixels"}                              the header is read; → {"id", "decode": true} lets it go on
    ← {"id", "progress": 0 … 99, "stage"}           progress only rises within a request
    ← {"id", "made": [{"n", "path", "width", "height", "thumbnail"}]}            or
    ← {"id", "error": {"code", "message"}}          an `error.code` of the API and a sentence for the user, or
                                                    `no_room` when the disk is full: ask again later

Open files come over the socket whose descriptor is argv[2].  Memory and CPU time of a request are limited by the number
of pixels in its header (`limit_picture`).  Libraries' output goes to stderr.  The child ignores signals that ask to
stop and leaves them to the parent: a drain lets pictures be finished.  Other programs of this kind pass their tasks to
`main`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from supervisor.objects.disk_space import NO_ROOM, is_full
from supervisor.processes.parent_death import die_with_parent

NICENESS = 5  # serving processes come before pictures
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# The highest measured need of any format: 17 bytes (AVIF with alpha and a profile) and 0.2 µs a pixel (HEIC with
# alpha).
PICTURE_BYTES, PICTURE_BYTES_A_PIXEL = 128 * 1024 * 1024, 24
PICTURE_CPU_SECONDS, PICTURE_CPU_SECONDS_A_PIXEL = 5, 0.5e-6

Task = Callable[[dict[str, Any], "Parent"], list[dict[str, Any]]]


class WorkFault(Exception):
    """An error to answer with.  code: an `error.code` (web/openapi/schemas.py); str() is a sentence for the user; more:
    further members of the answer."""

    def __init__(self, message: str, code: str, **more: Any) -> None:
        super().__init__(message)
        self.code, self.more = code, more


class Parent:
    """The parent, as a task uses it while it carries out a request."""

    def __init__(self, lines: TextIO, answers: TextIO, channel: socket.socket | None) -> None:
        self._lines, self._answers, self._channel = lines, answers, channel
        self.request_id: Any = None

    def requests(self) -> Any:
        """The requests, one after another, until stdin ends."""
        while line := self._lines.readline():
            yield json.loads(line)

    def say(self, **message: Any) -> None:
        """Send one line to the parent."""
        self._answers.write(json.dumps({"id": self.request_id, **message}) + "\n")

    def before_decoding(self, pixels: int) -> None:
        """Limit the memory and time for decoding so many pixels, and wait until the parent allows it."""
        limit_picture(pixels)
        self.say(pixels=pixels)
        if not self._lines.readline():
            sys.exit(0)

    def files(self, count: int) -> list[BinaryIO]:
        """The open files that came with the request."""
        assert self._channel is not None, "argv[2] names no socket"
        _, descriptors, _, _ = socket.recv_fds(self._channel, 1, count)
        return [os.fdopen(descriptor, "r+b") for descriptor in descriptors]


def main(tasks: Mapping[str, Task] | None = None) -> None:
    """Serve requests until stdin ends.  argv[1], when given: the pid of the parent to die with; argv[2]: the socket's
    descriptor.  tasks: this program's functions by name, besides `plain` and `upload`."""
    die_with_parent(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    for asks_to_stop in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the whole group
        signal.signal(asks_to_stop, signal.SIG_IGN)
    _be_modest()
    channel = socket.socket(fileno=int(sys.argv[2])) if len(sys.argv) > 2 else None
    parent = Parent(reserve_stdin(), reserve_stdout(), channel)
    known: dict[str, Task] = {"plain": _plain, "upload": _upload, **(tasks or {})}
    if tasks is None:
        _warm_up()
    for request in parent.requests():
        serve(request, parent, known)


def serve(request: dict[str, Any], parent: Parent, tasks: Mapping[str, Task]) -> None:
    """Carry out one request; every exception becomes an error answer."""
    parent.request_id = request.get("id")
    try:
        task = tasks.get(str(request.get("task")))
        if task is None:
            raise WorkFault("There is no such work.", "bad_params")
        parent.say(made=task(request, parent))
    except WorkFault as fault:
        parent.say(error={"code": fault.code, "message": str(fault), **fault.more})
    except MemoryError:
        message = "The picture is too large to be worked on here."
        parent.say(error={"code": "image_unusable", "message": message})
    except Exception as error:  # noqa: BLE001  a child answers; only its death is silent
        code, message = "internal", "The pictures could not be made because of an internal error."
        if is_full(error):
            code, message = NO_ROOM, "The disk on which pictures are made is full; free some space."
        else:
            traceback.print_exc()  # for the log; the user gets a sentence
        parent.say(error={"code": code, "message": message})
    finally:
        lift_limits()


def limit_picture(pixels: int) -> None:
    """Limit this process from now on: more memory raises MemoryError or ends it; more time ends it (SIGXCPU)."""
    limit_memory(PICTURE_BYTES + pixels * PICTURE_BYTES_A_PIXEL)
    seconds = PICTURE_CPU_SECONDS + pixels * PICTURE_CPU_SECONDS_A_PIXEL
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds))


def limit_memory(more_bytes: int) -> None:
    """The present address space plus so many bytes."""
    _limit(resource.RLIMIT_AS, _address_space() + more_bytes)


def lift_limits() -> None:
    """Lift the limit until the next request sets its own."""
    for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU):
        _limit(which, resource.getrlimit(which)[1])


def _limit(which: int, soft: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS has no limit on addresses
        resource.setrlimit(which, (soft, hard))


def _address_space() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux, so there is no limit
        return 0
    return pages * resource.getpagesize()


def _upload(request: dict[str, Any], parent: Parent) -> list[dict[str, Any]]:
    from supervisor.pictures.normalise import normalise_picture
    from supervisor.pictures.picture_errors import NotAPicture, PictureFault

    source, target = parent.files(int(request["files_sent"]))
    with source, target:
        limit_picture(0)  # reading the header also needs a limit
        source.seek(0)  # the file position is shared with the process that wrote it
        try:
            picture = normalise_picture(
                source,
                target,
                most_pixels=int(request["most_pixels"]),
                before_decoding=parent.before_decoding,
            )
        except NotAPicture as fault:
            raise WorkFault(str(fault), "not_a_picture") from fault
        except PictureFault as fault:
            raise WorkFault(str(fault), "image_unusable") from fault
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise WorkFault("There is no room on the disk for the picture.", "no_room") from error
            raise
    return [dataclasses.asdict(picture)]


def _plain(request: dict[str, Any], parent: Parent) -> list[dict[str, Any]]:
    from supervisor.pictures.foreign_pictures import make_plain
    from supervisor.pictures.picture_errors import PictureFault

    limit_picture(0)
    try:
        return make_plain(request, parent.before_decoding)
    except PictureFault as fault:
        raise WorkFault(str(fault), "image_unusable") from fault


def _warm_up() -> None:
    """Load code that the first picture needs, so that it need not wait for it."""
    import supervisor.pictures.normalise as pictures

    pictures.know_formats()


def _be_modest() -> None:
    """One native thread and a lower priority: several of these processes run at once, and serving processes must stay
    responsive beside them."""
    for name in ONE_THREAD:
        os.environ[name] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.nice(NICENESS)


def reserve_stdin() -> TextIO:
    """A separate stream for the requests.  Descriptor 0 becomes empty, so that no library, and no program that one
    starts, reads a request or waits for a person's answer."""
    requests = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    return requests


def reserve_stdout() -> TextIO:
    """A separate stream for the answers.  Descriptor 1 becomes stderr, so that no print, not even of a C library, can
    break a line."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


if __name__ == "__main__":
    main()
