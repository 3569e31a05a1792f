"""The command line, run as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.repository import ROOT


def darkroom(folder: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from supervisor.cli.main import main; main()", *argv],
        env={"PYTHONPATH": str(ROOT), "DARKROOM_DATA_DIR": str(folder), "PATH": "/usr/bin:/bin", **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
