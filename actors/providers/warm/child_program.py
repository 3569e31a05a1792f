"""The program of a child with a model: `python -m actors.providers.warm.child_program`. Its requests are those of
`supervisor.pictures.child_program`:

    → {"id", "task": "load", "class": "module:Class", "name", "settings"}    ← {"id", "made": []}
    → {"id", "task": "make", "job"}      ← {"id", "begun": true} at once, then progress, then {"id", "made": [done]}
    ← {"id", "error": {"code", "message", "kind"?, …}}                       a `ProviderError` keeps its class

Printed text goes to stderr. Before the text of a task comes a line with SPEAKS_FOR and the task's id.

It ends when stdin ends, after the model's `close`. It ignores the signals that ask to stop: its worker decides, and a
drain lets it finish.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback
from typing import Any

from actors.providers.base import ProviderError
from actors.providers.warm.messages import SPEAKS_FOR, job_in, told_of, told_of_error
from actors.providers.warm.model import Model, ModelSettings
from supervisor.pictures.child_program import Parent, WorkFault, reserve_stdin, reserve_stdout, serve
from supervisor.processes.parent_death import die_with_parent

LONGEST_STAGE = 1000  # letters; the worker shortens it further


class Host:
    """The child's one model."""

    def __init__(self) -> None:
        self.model: Model | None = None

    def load(self, request: dict[str, Any], parent: Parent) -> list[dict[str, Any]]:
        """Make the model and load it. Its errors keep their text, for the person who set it up."""
        module, _, name = str(request["class"]).partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
            model: Model = found(request["name"], ModelSettings(**request["settings"]))
            model.load()
        except ProviderError as error:
            raise _fault(error) from error
        except Exception as error:  # for the person who set it up, not for users
            traceback.print_exc()
            raise WorkFault(f"{type(error).__name__}: {error}", "internal") from error
        self.model = model
        return []

    def make(self, request: dict[str, Any], parent: Parent) -> list[dict[str, Any]]:
        """One job."""
        assert self.model is not None, "nothing is loaded"
        parent.say(begun=True)
        progress = Rising(parent)
        try:
            return [told_of(self.model.make(job_in(request), progress))]
        except ProviderError as error:
            raise _fault(error) from error
        except MemoryError as error:
            raise WorkFault("The model found no memory for this order.", "internal") from error
        finally:
            progress.end()

    def close(self) -> None:
        if self.model is not None:
            self.model.close()


def main() -> None:
    """Serve requests until stdin ends.  argv[1]: the pid of the worker to die with."""
    die_with_parent(int(sys.argv[1]))
    for asks_to_stop in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the whole group
        signal.signal(asks_to_stop, signal.SIG_IGN)
    parent, host = Parent(reserve_stdin(), reserve_stdout(), None), Host()
    for request in parent.requests():
        speak_for(request.get("job", {}).get("task_id", ""))
        serve(request, parent, {"load": host.load, "make": host.make})
        speak_for("")
    host.close()


def speak_for(task_id: str) -> None:
    """Mark the text printed from now on as this task's. The mark uses the same pipe as the text, so the order is
    kept."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(sys.stderr.fileno(), f"{SPEAKS_FOR}{task_id}\n".encode())


class Rising:
    """A progress function that never falls, never says 100, and says nothing twice, nor after the end of its job.
    Threads of the model may call it."""

    def __init__(self, parent: Parent) -> None:
        self._parent, self._lock = parent, threading.Lock()
        self._last: tuple[int, str] = (-1, "")
        self._has_ended = False

    def __call__(self, percent: int, stage: str) -> None:
        with self._lock:
            now = (min(99, max(0, int(percent), self._last[0])), str(stage)[:LONGEST_STAGE])
            if now != self._last and not self._has_ended:
                self._last = now
                self._parent.say(progress=now[0], stage=now[1])

    def end(self) -> None:
        """Say nothing from now on: the next line belongs to another job, or is the answer."""
        with self._lock:
            self._has_ended = True


def _fault(error: ProviderError) -> WorkFault:
    told = told_of_error(error)
    return WorkFault(told.pop("message"), told.pop("code"), **told)


if __name__ == "__main__":
    main()
