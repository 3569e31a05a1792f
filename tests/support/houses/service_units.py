"""A unit of deploy/systemd run by its own lines, as systemd would run it, without systemd.

Only the lines that decide whether a part is up: ExecStart, Restart, RestartSec, RestartPreventExitStatus, the limit of
starts (systemd.service(5), systemd.unit(5)).
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from supervisor.processes.parent_death import dying_with_us
from tests.support.houses.parts import DARKROOM, ROOT, SECRET

INSTALLED = "/opt/darkroom/bin/darkroom"


def read_unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """{section: {name: values}}; configparser alone would take a repeated name for an error."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return found


class ServiceUnit:
    """Starts at its creation. ends: the exit status of each ended run. is_up: it runs, or ended well as a unit that
    remains. is_down: it will not be started again.
    """

    def __init__(self, path: Path, folder: Path, settings: Mapping[str, str]) -> None:
        unit = read_unit(path)
        self._service, self._unit = unit["Service"], unit["Unit"]
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{path.stem}.log"
        self._folder = folder
        program, _, self._command = self._service["ExecStart"][0].partition(" ")
        assert program == INSTALLED
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")
        }
        self._environ |= {f"DARKROOM_{name}": value for name, value in settings.items()}
        self._environ |= {
            "DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(folder), "DARKROOM_SECRET": SECRET, "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        self.ends: list[int] = []
        self.is_down = self.has_ended_well = False
        self._starts: list[float] = []
        self._is_stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_up, daemon=True)
        self._thread.start()

    @property
    def is_up(self) -> bool:
        process = self._process
        return self.has_ended_well or (process is not None and process.poll() is None)

    def said(self, what: str = "") -> str:
        """The lines of its log that hold these words."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(line for line in lines if what in line)

    def stop(self) -> None:
        self._is_stopped.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join(30)

    def _one(self, section: dict[str, list[str]], name: str, default: str) -> str:
        return section.get(name, [default])[0]

    def _keep_up(self) -> None:
        while not self._is_stopped.is_set():
            if self._is_over_the_limit():
                self.is_down = True
                return
            status = self._run()
            if self._is_stopped.is_set():
                return
            self.ends.append(status)
            restart = self._one(self._service, "Restart", "no")
            self.has_ended_well = status == 0 and "RemainAfterExit" in self._service
            prevented = self._one(self._service, "RestartPreventExitStatus", "").split()
            if str(status) in prevented or not (restart == "always" or (restart == "on-failure" and status)):
                self.is_down = not self.has_ended_well
                return
            self._is_stopped.wait(float(self._one(self._service, "RestartSec", "0.1")))

    def _run(self) -> int:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_us([DARKROOM, *self._command.split()]),
                env=self._environ,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        return self._process.wait()

    def _is_over_the_limit(self) -> bool:
        interval = float(self._one(self._unit, "StartLimitIntervalSec", "10"))
        burst = int(self._one(self._unit, "StartLimitBurst", "5"))
        now = time.monotonic()
        self._starts = [*(start for start in self._starts if start > now - interval), now]
        return interval > 0 and len(self._starts) > burst
