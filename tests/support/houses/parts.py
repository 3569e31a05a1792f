"""Parts of the system as on several hosts: each a process with a data folder and a log of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from supervisor.processes.parent_death import dying_with_us
from tests.support.repository import ROOT
from tests.support.waiting import eventually

DARKROOM = Path(sys.executable).with_name("darkroom")
SECRET = "one secret on every host, long enough for HS256"


class Part:
    """`darkroom NAME` from its making to `kill`.  settings: without DARKROOM_; DATA_DIR is made here."""

    def __init__(self, name: str, data_dir: Path, settings: Mapping[str, str]) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.log = data_dir / f"{name}.log"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        self.environ |= {f"DARKROOM_{name}": value for name, value in settings.items()}
        self.environ |= {
            "DARKROOM_CONFIG": "",
            "DARKROOM_DATA_DIR": str(data_dir),
            "DARKROOM_SECRET": SECRET,
            "PYTHONPATH": str(ROOT),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                dying_with_us([DARKROOM, name]),
                env=self.environ,
                cwd=data_dir,
                stdout=log,
                stderr=log,
            )

    @property
    def url(self) -> str:
        """Where a web listens, once it does."""
        return eventually(f"{self.log} tells an address", self._url)

    def _url(self) -> str:
        assert self.process.poll() is None, self.said()
        told = self.data_dir / "url"
        return told.read_text().strip() if told.exists() else ""

    def said(self, what: str = "") -> str:
        """The lines of its log that hold these words."""
        lines = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace")).splitlines()
        return "\n".join(line for line in lines if what in line)

    def kill(self) -> None:
        """End it and, as they die with their parent, its children; returns when it is gone."""
        self.process.kill()
        self.process.wait()


def faulty_type(name: str, notes: Path, **options: str) -> dict[str, str]:
    """Settings of a task type with a service that records its requests. options: of FaultyProvider."""
    notes.touch()
    options = {
        "class": "tests.support.providers.faulty_provider:FaultyProvider",
        "notes": str(notes),
    } | options
    return {
        f"TASKS__{name}__PROVIDER": name,
        f"PROVIDERS__{name}__KIND": "python",
        f"PROVIDERS__{name}__MAY_BILL_TWICE": "true",
        **{f"PROVIDERS__{name}__OPTIONS__{option}": value for option, value in options.items()},
    }
