"""The real cog server of the package registry, with a predictor of ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

START_SECONDS = 60
PREDICTIONS = Path("/tmp/coglet/predictions")  # fixed in cog; the first test process would keep others out


class CogServer:
    """Use it as a context.  url: where it listens.  predictor: a program in place of ours."""

    def __init__(self, folder: Path, predictor: str = "") -> None:
        self._folder, self._predictor = folder, predictor
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.log = folder / "cog.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CogServer:
        self._folder.mkdir(exist_ok=True)
        if self._predictor:
            (self._folder / "predict.py").write_text(self._predictor, encoding="utf-8")
        else:
            shutil.copy(Path(__file__).parent / "cog_predictor.py", self._folder / "predict.py")
        (self._folder / "cog.yaml").write_text('predict: "predict.py:Predictor"\n', encoding="utf-8")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, setup: str = "", until: str = "READY") -> None:
        """Start it, and wait until it takes predictions, or is in another state.  setup: `waits` or `fails`."""
        if setup:
            (self._folder / "setup").write_text(setup)
        PREDICTIONS.mkdir(parents=True, exist_ok=True)
        for folder in (PREDICTIONS.parent, PREDICTIONS):
            with contextlib.suppress(PermissionError):  # another user's
                folder.chmod(0o1777)
        # It starts its worker as `python`, which must be the one of this environment.
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        own = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cog.server.http", "--host", "127.0.0.1"],
                cwd=self._folder,
                env=own
                | {
                    "PATH": path,
                    "PORT": str(self._port),
                    "COG_PREDICT_TYPE_STUB": "predict.py:Predictor",
                    "COG_LOG_LEVEL": "warning",
                    "COG_NO_UPDATE_CHECK": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.state() != until:
            assert self._process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End it and its worker, at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def let_setup_end(self) -> None:
        """Of one that waits."""
        (self._folder / "setup").unlink(missing_ok=True)

    def forget_runs(self) -> None:
        """From now on `has_begun` speaks of the next prediction."""
        (self._folder / "running").unlink(missing_ok=True)

    def has_begun(self) -> bool:
        """Whether a prediction has reached the predictor, so that it can be cancelled."""
        return (self._folder / "running").exists()

    def state(self) -> str:
        """READY, BUSY, …; empty while no server answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/health-check", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return str(found.get("status", ""))
        except (OSError, urllib.error.URLError, ValueError):
            return ""
