"""The program that works on pictures, one request at a time: `python -m actors.image_child`, a child of a worker.

It is a process of its own because nothing can interrupt a thread inside image code, while a process can be
killed.  It reads one JSON object a line from stdin and answers on stdout, until stdin ends:

    → {"id", "task": "photography" | "fitting", "person", "garment"?, "scene", "count", "seed", "out",
       "pictures"?, "size"?}
    → {"id", "task": "plain", "files": [{"n", "path"}], "out", "most_pixels", "name"?}       (`plain_pictures`)
    ← {"id", "progress": 0 … 99, "stage"}          progress only rises within a request
    ← {"id", "images": [{"n", "path", "width", "height"}]}          or
    ← {"id", "error": {"code", "message"}}          a code of CONTRACT.md and a sentence for the user

Pictures are written to the folder `out` under their final names only when they are whole.  What libraries
print goes to stderr.  Signals that ask to stop are left to the parent: a drain lets the pictures be finished.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from actors.providers.studio.faults import ImageUnusable, StudioFault
from actors.providers.studio.order import Order, read_order
from supervisor.parent_death import die_with_parent

if TYPE_CHECKING:
    from actors.providers.studio.delivery import Delivered

NICENESS = 5  # heartbeats of the workers come before pictures
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, str], None]
Answer = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve requests until stdin ends.  argv[1], when given: the pid of the parent to die with."""
    die_with_parent(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    for asks_to_stop in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the whole group
        signal.signal(asks_to_stop, signal.SIG_IGN)
    _be_modest()
    answers = _reserve_stdout()

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    for line in sys.stdin:
        serve(json.loads(line), answer)


def serve(request: dict[str, Any], answer: Answer) -> None:
    """Carry out one request; whatever goes wrong becomes an error answer."""
    try:
        if request.get("task") == "plain":
            images = _plain(request)
        else:
            images = carry_out(read_order(request), _rising(request.get("id"), answer))
        answer({"id": request.get("id"), "images": images})
    except StudioFault as fault:
        answer({"id": request.get("id"), "error": {"code": fault.code, "message": str(fault)}})
    except Exception:  # noqa: BLE001  a child answers; only its death is silent
        traceback.print_exc()  # for the log; the user gets a sentence
        message = "The pictures could not be made because of an internal error."
        answer({"id": request.get("id"), "error": {"code": "internal", "message": message}})


def _plain(request: dict[str, Any]) -> list[dict[str, Any]]:
    from actors.plain_pictures import make_plain
    from supervisor.pictures import PictureFault

    try:
        return make_plain(request)
    except PictureFault as fault:
        raise ImageUnusable(str(fault)) from fault


def carry_out(order: Order, progress: Progress) -> list[dict[str, Any]]:
    """Make the order's pictures; with cards in their place when the `studio` extra is not installed."""
    made = [
        {"n": picture.n, "path": str(picture.path), "width": picture.width, "height": picture.height}
        for picture in _studio()(order, progress)
    ]
    return made


def _studio() -> Callable[[Order, Progress], Iterator[Delivered]]:
    try:
        import ai_edge_litert.interpreter  # noqa: F401
        import numpy  # noqa: F401
    except ImportError:
        from actors.providers.studio.fallback import make_cards

        return make_cards
    return _make_pictures


def _make_pictures(order: Order, progress: Progress) -> Iterator[Delivered]:
    if order.task == "fitting":
        from actors.providers.studio.fitting import fit

        return fit(order, progress)
    from actors.providers.studio.photography import photograph

    return photograph(order, progress)


def _rising(request_id: Any, answer: Answer) -> Progress:
    """A progress function that never falls, never says 100, and says nothing twice."""
    last: tuple[int, str] = (-1, "")

    def progress(percent: int, stage: str) -> None:
        nonlocal last
        now = (min(99, max(percent, last[0])), stage)
        if now != last:
            last = now
            answer({"id": request_id, "progress": now[0], "stage": stage})

    return progress


def _be_modest() -> None:
    """One native thread and a lower priority: several of these run side by side, and workers must stay alive
    beside them."""
    for name in ONE_THREAD:
        os.environ[name] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.nice(NICENESS)


def _reserve_stdout() -> TextIO:
    """The answers' own stream.  Descriptor 1 becomes stderr, so that no print, not even of a C library, can
    break a line."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


if __name__ == "__main__":
    main()
