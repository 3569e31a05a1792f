"""Waiting for named conditions with deadlines, for tests that watch other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LOOK_SECONDS = 0.01

# A green test never waits so long: what takes a second alone takes ten on a busy machine, and none of them is late.
PATIENCE_SECONDS = 90.0


def eventually(claim: str, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """What the condition gives, as soon as that is true.  Fails with the claim when it is not so in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {claim}"
        time.sleep(LOOK_SECONDS)
    return found
