"""How long a body may still be waited for: a slow phone is let finish, one that has fallen silent is not.  Pure.

A body may be silent for `SILENT_SECONDS` at most, and beyond its first `GRACE_SECONDS` it must have brought
`LEAST_BYTES_A_SECOND` on average.  Only time spent waiting for the sender counts, never time that we took ourselves.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENT_SECONDS = 30.0  # a phone in a tunnel; TCP itself may send again as late as that
GRACE_SECONDS = 60.0
LEAST_BYTES_A_SECOND = 512  # a tenth of what a phone has on the slowest network that is still in use


@dataclass
class Pace:
    """What one body has brought so far.  waited_seconds: for its sender, all waits together."""

    received_bytes: int = 0
    waited_seconds: float = 0.0

    def note(self, bytes_: int, waited_seconds: float) -> None:
        """Another piece has come, after such a wait."""
        self.received_bytes += bytes_
        self.waited_seconds += waited_seconds

    @property
    def patience_seconds(self) -> float:
        """How long the next piece may take; 0 or less when the body has been too slow already."""
        allowed = GRACE_SECONDS + self.received_bytes / LEAST_BYTES_A_SECOND
        return min(SILENT_SECONDS, allowed - self.waited_seconds)
