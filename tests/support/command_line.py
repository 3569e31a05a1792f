"""The command line, run as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.repository import ROOT

PROGRAM = [sys.executable, "-c", "from supervisor.cli.main import main; main()"]


def environ_of(folder: Path, **environ: str) -> dict[str, str]:
    """What the command line is told of its system, and nothing else."""
    return {"PYTHONPATH": str(ROOT), "DARKROOM_DATA_DIR": str(folder), "PATH": "/usr/bin:/bin", **environ}


def darkroom(folder: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *argv],
        env=environ_of(folder, **environ),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
