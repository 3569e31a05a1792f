"""Another time of day for a command and everything it starts: `python -m bench.moved_clock +365d COMMAND …`.

libfaketime, loaded before the C library, answers every call for the time of day. CLOCK_MONOTONIC is unchanged, so waits
last as long as before.  The library is that of the package on the index: Debian's 0.9.10 makes `time.sleep` of Python
3.11 and newer fail when CLOCK_MONOTONIC is left alone, and timed locks wait for a year when it is not.  Times of files
stay real, so compared with the time of day a new file seems to be of another day.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

FOR_EVER_SECONDS = 10**8  # the offset is read once, so no thread sees it half written
_OFFSET = re.compile(r"[+-]\d+(\.\d+)?[smhdy]?")


def moved(offset: str) -> dict[str, str]:
    """What a program's environment needs, so that its clock is ahead (`+365d`) or behind (`-30d`)."""
    if _OFFSET.fullmatch(offset) is None:
        raise ValueError(f"{offset!r} is no offset such as +365d, -30d or +3600.")
    return {**_preloaded(), "FAKETIME": offset, "FAKETIME_CACHE_DURATION": str(FOR_EVER_SECONDS)}


def stepping(file: Path) -> dict[str, str]:
    """The environment of programs whose clock `step` moves while they run; until then their clock is the real one."""
    step(file, 0)
    return {**_preloaded(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}


def step(file: Path, offset_seconds: int) -> None:
    """Set the clock of all programs that use this file ahead of the real one, or behind it; within a second."""
    draft = file.with_suffix(".new")
    draft.write_text(f"{offset_seconds:+d}\n")
    draft.replace(file)


def _preloaded() -> dict[str, str]:
    found = importlib.util.find_spec("libfaketime")
    assert found is not None and found.origin is not None, "libfaketime comes with the extra `test`"
    library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def ahead_seconds(environ: dict[str, str]) -> float:
    """How far a program of this environment sees the clock ahead."""
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=environ,
        capture_output=True,
        check=True,
    )
    return float(told.stdout) - time.time()


def main() -> None:
    """See the module."""
    offset, command = sys.argv[1], sys.argv[2:]
    environ = os.environ | moved(offset)
    if abs(ahead_seconds(environ)) < 1:
        sys.exit("The clock can't be moved here: libfaketime's library is for Linux on x86-64.")
    print(f"the clock at {offset}:", " ".join(command), flush=True)
    os.execvpe(command[0], command, environ)


if __name__ == "__main__":
    main()
