"""Which heartbeats have stopped, by the watcher's own clock.  Pure.

The watcher counts the seconds for which it has itself seen the same beat, and only while it reads often enough: a gap
in its own reading proves nothing about the senders, so after a gap every count starts from zero.
"""

from __future__ import annotations

from collections.abc import Mapping


class HeartbeatMonitor:
    """lease_seconds: how long the same beat may be seen before its sender counts as dead."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self.longest_gap_seconds = lease_seconds / 3
        self._first_seen: dict[str, tuple[int, float]] = {}
        self._looked_at: float | None = None

    def start_anew(self) -> None:
        """Start all counts from zero, because the watcher itself was interrupted."""
        self._first_seen.clear()
        self._looked_at = None

    def passed(self, now: float) -> float | None:
        """Seconds since the watcher last read; None after a new start.  now: monotonic seconds."""
        return None if self._looked_at is None else now - self._looked_at

    def silent(self, beats: Mapping[str, int], now: float) -> list[str]:
        """The senders that have been silent for the lease.  beats: {sender: its beat}; now: monotonic seconds."""
        if (self.passed(now) or 0.0) > self.longest_gap_seconds:
            self._first_seen.clear()
        self._looked_at = now
        self._first_seen = {
            sender: seen if (seen := self._first_seen.get(sender)) and seen[0] == beat else (beat, now)
            for sender, beat in beats.items()
        }
        return [
            sender for sender, (_, since) in self._first_seen.items() if now - since >= self._lease_seconds
        ]
