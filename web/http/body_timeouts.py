"""How long to wait for the rest of a body: a slow client may finish, a silent one may not.  Pure.

A body may be silent for at most `SILENT_SECONDS`, and after its first `GRACE_SECONDS` it must average
`LEAST_BYTES_A_SECOND`.  Only time spent waiting for the sender counts, not our own work.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENT_SECONDS = 30.0  # a phone in a tunnel; TCP itself may retransmit as late as this
GRACE_SECONDS = 60.0
LEAST_BYTES_A_SECOND = 512  # a tenth of a phone's speed on the slowest network still in use


@dataclass
class Pace:
    """The bytes of one body so far.  waited_seconds: for its sender, over all waits."""

    received_bytes: int = 0
    waited_seconds: float = 0.0

    def note(self, bytes_: int, waited_seconds: float) -> None:
        """Record another piece, after a wait."""
        self.received_bytes += bytes_
        self.waited_seconds += waited_seconds

    @property
    def patience_seconds(self) -> float:
        """How long the next piece may take; 0 or less if the body was too slow already."""
        allowed = GRACE_SECONDS + self.received_bytes / LEAST_BYTES_A_SECOND
        return min(SILENT_SECONDS, allowed - self.waited_seconds)
