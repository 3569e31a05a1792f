"""The health check of a container: `python -m supervisor.processes.beat_check [SECONDS]`.

Exit status 0 when the part that beats into the file of SUPERVISOR_BEAT_FILE has done so within SECONDS (60 by
default), 1 with a sentence when it has not.  A part beats from the loop that does its work, so a frozen or blocked part
is found, and one that waits for an absent database is not taken for a frozen one.

It imports nothing of ours: a check every some seconds must cost little.
"""

from __future__ import annotations

import os
import sys
import time

FILE_VARIABLE = "SUPERVISOR_BEAT_FILE"  # the same as in `heartbeat_pipe`
WITHIN_SECONDS = 60.0


def trouble(path: str, now: float, within_seconds: float) -> str:
    """What is wrong with the part that beats into this file; empty for nothing.  now: of the monotonic clock."""
    if not path:
        return f"{FILE_VARIABLE} is not set, but must name the file into which the part beats."
    try:
        with open(path, encoding="ascii") as file:
            beaten = int(file.read(64))
    except FileNotFoundError:
        return "The part has not beaten yet."
    except (OSError, ValueError) as error:
        return f"{path} can't be read as the time of a beat: {error}."
    silent = now - beaten
    if not -1 <= silent <= within_seconds:
        return (
            f"The part has been silent for {silent:.0f} s."
            if silent > 0
            else "The last beat is of another boot."
        )
    return ""


def main() -> int:
    """The exit status, after a sentence about trouble."""
    given = sys.argv[1] if len(sys.argv) > 1 else str(WITHIN_SECONDS)
    if not given.replace(".", "", 1).isdecimal():
        print(f"beat_check: {given!r} may be a number of seconds, such as 60.", file=sys.stderr)
        return 2
    found = trouble(os.environ.get(FILE_VARIABLE, ""), time.monotonic(), float(given))
    if found:
        print(f"beat_check: {found}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
