"""Packages from npm for system tests: installed once into the temporary folder, at exactly these versions."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

NODE, NPM = shutil.which("node"), shutil.which("npm")

PACKAGES = {
    "@cloudbase/node-sdk": "3.18.3",
    "acorn": "8.19.0",
    "axe-core": "4.14.1",
    "eventsource": "4.1.1",  # the last for Node 20
    "eventsource-parser": "3.1.1",
    "miniprogram-api-typings": "5.2.3",
    "typescript": "7.0.2",
    "wx-server-sdk": "4.0.2",
}


# The SDKs that come in by our doors.  Some of them want a newer Node than distributions have: npm has one as a package.
SDKS = {
    "@ai-sdk/fal": "3.0.41",
    "@ai-sdk/openai": "4.0.118",
    "@ai-sdk/replicate": "3.0.46",
    "@fal-ai/client": "1.10.1",
    "ai": "7.0.173",
    "node": "22.23.3",
    "openai": "7.59.0",
    "replicate": "1.4.0",
}


def npm_packages(packages: Mapping[str, str] = PACKAGES) -> Path:
    """A folder with `node_modules` in it.  packages: {name: version}."""
    version = hashlib.sha256(json.dumps(packages).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"darkroom-npm-{version}"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may come at once
        if not (folder / "done").exists():
            (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": packages}))
            command = [NPM or "npm", "install", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
            (folder / "done").touch()
    return folder
