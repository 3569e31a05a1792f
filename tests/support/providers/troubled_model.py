"""A model that does what models do in bad times, as its orders' prompts say."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from actors.providers.base import ContentRejected, Done, Lost, MadeFile, RateLimited
from actors.providers.warm.model import ModelJob, ModelSettings, Progress
from tests.support.providers.instant_provider import ONE_PIXEL

MIB = 1024 * 1024


class TroubledModel:
    """options.load: `fail`, `die` or `hang`.  options.notes: a file that is told of each `load`, `make` and `close`."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self.options, self.secrets = settings.options, settings.secrets
        self.kept: list[bytearray] = []
        self.calls = 0
        self.late: Progress = lambda percent, stage: None

    def load(self) -> None:
        self._note("load")
        match self.options.get("load", ""):
            case "fail":
                raise RuntimeError("CUDA driver version is insufficient")
            case "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(3600)

    def make(self, job: ModelJob, progress: Progress) -> Done:
        self._note(f"make {job.task_id}")
        self.calls += 1
        progress(10, "working")
        words = str(job.params.get("prompt") or "").split()
        match words:
            case ["crash"]:
                os.kill(os.getpid(), signal.SIGSEGV)
            case ["crash", "at", "every", number] if self._calls_ever() % int(number) == 0:
                os.kill(os.getpid(), signal.SIGSEGV)
            case ["leak", mib]:
                self.kept.append(bytearray(b"x") * (int(mib) * MIB))
            case ["hold", mib]:
                self.kept.append(bytearray(b"x") * (int(mib) * MIB))
                time.sleep(3600)
            case ["start", how, *then]:
                self._start_one_that_stays(how)
                if then == ["crash"]:
                    os.kill(os.getpid(), signal.SIGSEGV)
                if then == ["hang"]:
                    time.sleep(3600)
            case ["hang"]:
                time.sleep(3600)
            case ["say", *what]:
                print(" ".join(what))
                os.write(2, b"and natively\n")
            case ["reject"]:
                raise ContentRejected("The model does not paint this.")
            case ["wait"]:
                raise RateLimited("The model rests.", wait_seconds=7)
            case ["write", *what]:
                for descriptor in range(3, 10):  # one of them leads to the worker
                    with contextlib.suppress(OSError):
                        os.write(descriptor, " ".join(what).encode() + b"\n")
            case ["ask"]:
                input("May I run code of others? ")
            case ["report", percent]:
                progress(int(percent), "reported")
            case ["report", "by", "threads"]:
                threads = [
                    threading.Thread(target=lambda: [progress(50, f"step {n}") for n in range(2000)])
                    for _ in range(4)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            case ["report", "too", "late"]:
                self.late = progress
            case ["report", "what", "is", "late"]:
                self.late(77, "of the job before")
            case ["lose"]:
                raise Lost("The model has forgotten it.")
            case ["break"]:
                raise KeyError("of no class of ours")
            case ["wrong"]:
                return None  # type: ignore[return-value]
            case ["large"]:
                return Done(data={"text": "x" * 200_000})
            case ["files"]:
                film = job.folder / "film.txt"
                film.write_text("a film")
                return Done(files=(MadeFile(film, "film.txt", duration_seconds=4.0),), data=[1, None])
            case ["env"]:
                return Done(data={"env": dict(os.environ), "path": sys.path, "secrets": dict(self.secrets)})
        path = job.folder / "0.png"
        path.write_bytes(ONE_PIXEL)
        return Done(data={"pid": os.getpid(), "calls": self.calls, "inputs": [str(p) for p in job.inputs]})

    def close(self) -> None:
        self._note("close")

    def _start_one_that_stays(self, how: str) -> None:
        """Another process, which holds pipes of ours; its pid is noted."""
        if how == "fork":
            pid = os.fork()
            if not pid:
                time.sleep(3600)
                os._exit(0)
        else:
            pid = subprocess.Popen(["sleep", "3600"], start_new_session=how == "daemon").pid
        self._note(f"started {pid}")

    def _note(self, what: str) -> None:
        if notes := self.options.get("notes"):
            with Path(notes).open("a") as file:
                file.write(f"{what}\n")

    def _calls_ever(self) -> int:
        return Path(str(self.options["notes"])).read_text().count("make ")
