"""A real film of a second, with sound, made by ffmpeg (the package imageio-ffmpeg brings it)."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def film(width: int = 128, height: int = 96) -> bytes:
    """An MP4 that browsers play.  width, height in pixels, even."""
    from imageio_ffmpeg import get_ffmpeg_exe

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        seen = ["-f", "lavfi", "-i", f"testsrc=size={width}x{height}:rate=10:duration=1"]
        heard = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
        made_as = ["-pix_fmt", "yuv420p", "-shortest", "-movflags", "+faststart", str(path)]
        subprocess.run(
            [get_ffmpeg_exe(), "-loglevel", "error", *seen, *heard, *made_as], check=True, timeout=120
        )
        return path.read_bytes()
