"""A newcomer's path: from the address of a running AI server to a finished picture, by two commands and one order.

    python -m bench.newcomer [--only gradio] [--comfyui CHECKOUT --comfyui-python PYTHON]

The commands are `darkroom provider new URL --out darkroom.toml` and `darkroom up`; the order is what the console's form
sends: the sample portrait, and the type that the first command has written.  For ComfyUI the exported workflow lies
beside the settings, under the name that they say.  Seconds of each step are printed; the exit status is 1 when a
picture is not made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.server_cases import WORKFLOW, Server, opened_server
from tests.support.running_system import SAMPLE, running_system


def main() -> int:
    """The exit status."""
    asked = argparse.ArgumentParser(prog="bench.newcomer", description=__doc__)
    asked.add_argument("--only", choices=("gradio", "cog", "comfyui"))
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--comfyui", type=Path)
    asked.add_argument("--comfyui-python", type=Path, default=Path(sys.executable))
    given = asked.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="darkroom-newcomer-"))
    folder.mkdir(exist_ok=True)
    good = True
    for name in ("gradio", "cog", "comfyui"):
        if given.only not in (None, name) or (name == "comfyui" and given.comfyui is None):
            continue
        with opened_server(name, folder, given.comfyui, given.comfyui_python) as server:
            good = _walk(name, server) and good
    return 0 if good else 1


def _walk(name: str, server: Server) -> bool:
    with tempfile.TemporaryDirectory() as home:
        began = time.monotonic()
        darkroom = Path(sys.executable).with_name("darkroom")
        environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
        new = [str(darkroom), "provider", "new", server.url, "--out", "darkroom.toml"]
        subprocess.run(new, cwd=home, env=environ, check=True, stdout=subprocess.DEVNULL)
        written = time.monotonic()
        (Path(home) / "workflow_api.json").write_text(json.dumps(WORKFLOW), encoding="utf-8")
        settings = {
            "WORKER_PROCESSES": "1",
            "CREDITS__ENABLED": "true",
        }
        if name == "comfyui":
            settings["PROVIDERS__own__OPTIONS__workflow"] = str(Path(home) / "workflow_api.json")
        with running_system(None, None, config=Path(home) / "darkroom.toml", **settings) as system:
            up = time.monotonic()
            submit = [str(darkroom), "submit", "own_photo", str(SAMPLE), "--out", home]
            made = subprocess.run(
                submit,
                cwd=home,
                env=system.environ | {"DARKROOM_URL": system.url},
                check=False,
                capture_output=True,
            )
            rows = system.sql("SELECT status, error FROM task_queue")
            finished = time.monotonic()
    status = rows[0][0] if rows else made.stderr.decode()[-300:]
    print(
        f"{name}: provider new {written - began:.1f} s, up {up - written:.1f} s, order {finished - up:.1f} s; together "
        f"{finished - began:.1f} s; {status} {rows[0][1] or '' if rows else ''}",
        flush=True,
    )
    return status == "completed"


if __name__ == "__main__":
    sys.exit(main())
