"""Waiting for named conditions with deadlines, for tests that watch other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LOOK_SECONDS = 0.01


def patience(usual_seconds: float) -> Callable[..., Any]:
    """A function `eventually(claim, condition, seconds=usual_seconds)`.

    It returns what the condition gives as soon as that is true, and fails with the claim when it is not so in time.
    """

    def eventually(claim: str, condition: Callable[[], Any], seconds: float = usual_seconds) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {claim}"
            time.sleep(LOOK_SECONDS)
        return found

    return eventually
