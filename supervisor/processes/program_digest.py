"""A short word for the program that runs: its version, and a digest of its files.  A deploy changes it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path

PACKAGES = ("actors", "config", "metrics", "supervisor", "web")
_ROOT = Path(__file__).parents[2]


@functools.cache
def program_digest() -> str:
    """Such as "0.2.0 3f2a91c4".  Reads some hundred files, once in a process: it tells what this process has loaded."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    try:
        version = importlib.metadata.version("darkroom-queue")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        version = "0"
    return f"{version} {digest.hexdigest()[:8]}"
