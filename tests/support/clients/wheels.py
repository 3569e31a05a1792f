"""Wheels of our own, and fresh environments that they are installed into from their files."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.support.repository import ROOT

CLIENT = ROOT / "clients" / "python"


def client_wheel(folder: Path) -> Path:
    """The wheel of our client for Python, built in this folder.  The checkout stays as it is."""
    source = folder / "source"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(packages: Sequence[str], folder: Path | None = None, *, is_pinned: bool = False) -> Path:
    """The Python of a fresh environment with these packages and nothing else.

    packages: as pip takes them.  is_pinned: they are all, with their versions; else constraints.txt has the versions.

    folder: where it is made; None for one that is kept below the temporary folder, under a name made of the packages.
    """
    name = hashlib.sha256("\n".join([sys.version, *packages]).encode()).hexdigest()[:12]
    place = folder or Path(tempfile.gettempdir()) / f"darkroom-venv-{name}"
    place.mkdir(exist_ok=True, parents=True)
    python = place / "venv" / "bin" / "python"
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may come at once
        if not (place / "done").exists():
            venv.create(place / "venv", with_pip=True, clear=True)
            constraints = ["--no-deps"] if is_pinned else ["--constraint", str(ROOT / "constraints.txt")]
            command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints]
            subprocess.run([*command, *packages], check=True, timeout=280)
            (place / "done").touch()
    return python
