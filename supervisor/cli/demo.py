"""`make demo`: start the whole system in a temporary folder, make the sample pictures, and stop and delete everything.

Run it from a checkout: the samples are in examples/samples/, the pictures go to demo-output/.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from config.declarations import samples
from config.load_settings import load_settings
from config.settings import Settings
from supervisor.cli.api_client import ApiError, api_of
from supervisor.cli.progress import follow
from supervisor.cli.up import script
from supervisor.processes.parent_death import dying_with_us

SAMPLES = Path("examples/samples")
OUTPUT = Path("demo-output")
START_SECONDS = 60.0
STOP_SECONDS = 45.0


class DemoFailed(Exception):
    """The demo did not work; str() says where."""


def main() -> int:
    """0 if every picture was made."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-demo-"))
    log_path = folder / "up.log"
    # Settings for another Darkroom must not leak in.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environ |= {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(folder / "var"), "DARKROOM_PORT": "0"}
    with log_path.open("wb") as log:
        up = subprocess.Popen(
            dying_with_us([script("darkroom"), "up"]),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # we pass on a terminal's Ctrl-C ourselves
        )
    try:
        address = timed("start", lambda: wait_until_ready(up))
        print(f"  running at {address}", flush=True)
        asyncio.run(make_pictures(load_settings(environ)))
        timed("stop", lambda: stop(up))
    except (DemoFailed, ApiError) as error:
        print(f"demo: {error}", file=sys.stderr)
        print(log_path.read_text(errors="replace")[-4000:], file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if up.poll() is None:
            up.send_signal(signal.SIGINT)
            up.send_signal(signal.SIGTERM)
            up.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"done: the pictures are in {OUTPUT}/; `make up` keeps it running", flush=True)
    return 0


def timed(phase: str, work: Any) -> Any:
    """The result of the work; prints its duration."""
    began = time.monotonic()
    result = work()
    print(f"{phase:12} {time.monotonic() - began:5.1f} s", flush=True)
    return result


def wait_until_ready(up: subprocess.Popen[bytes]) -> str:
    """The address that `up` prints.  Raises DemoFailed."""
    assert up.stdout is not None
    alarm = signal.signal(signal.SIGALRM, lambda *_: up.kill())
    signal.setitimer(signal.ITIMER_REAL, START_SECONDS)
    try:
        for line in up.stdout:
            if line.startswith(b"ready "):
                return line.split()[1].decode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
    raise DemoFailed(f"`darkroom up` was not ready within {START_SECONDS:g} s")


def stop(up: subprocess.Popen[bytes]) -> None:
    """Drain and wait.  Raises DemoFailed."""
    up.send_signal(signal.SIGTERM)
    try:
        status = up.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"`darkroom up` did not stop within {STOP_SECONDS:g} s") from None
    if status != 0:
        raise DemoFailed(f"`darkroom up` ended with exit status {status}")


async def make_pictures(settings: Settings) -> None:
    """Make each order over HTTP, draw its progress, save its pictures.  Raises DemoFailed, ApiError."""
    async with api_of(settings, "demo") as api:
        for task_type, params in samples().items():
            began = time.monotonic()
            images = [await api.upload(SAMPLES / picture) for picture in params["images"]]
            uploaded = time.monotonic()
            accepted = await api.submit(task_type, {**params, "images": images})
            submitted = time.monotonic()
            doc = await follow(api, accepted["work_id"], task_type)
            finished = time.monotonic()
            if doc["status"] != "completed":
                error = doc.get("error") or {}
                raise DemoFailed(f"{task_type} {doc['status']}: {error.get('message')} ({error.get('code')})")
            for number, image in enumerate(doc["images"], start=1):
                path = await api.download(image["url"], OUTPUT / f"{task_type}-{number}")
                print(
                    f"  {path}  {image['width']}×{image['height']}  {path.stat().st_size // 1024} KiB",
                    flush=True,
                )
            phases = {
                "upload": uploaded - began,
                "accepted": submitted - uploaded,
                "made": finished - submitted,
            }
            told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items())
            print(f"{task_type:12} {finished - began:5.1f} s  ({told})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
