"""Which children are frozen, by their supervisor's own clock.  Pure.

A child that has beaten and is silent for SILENT_SECONDS is frozen: stopped, or its event loop is blocked.  A child that
has not beaten yet has START_SECONDS, since a start may take long on a busy machine.  Time counts only while the
supervisor itself runs: after a gap of its own, for example when a laptop sleeps, all counts begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.health.heartbeat_monitor import HeartbeatMonitor

SILENT_SECONDS = 15.0
START_SECONDS = 120.0
LOOK_SECONDS = 1.5  # a tenth of SILENT_SECONDS: what was seen at a look is ten looks later too old


class FrozenChildren:
    """silent_seconds, start_seconds: how long a child that has beaten, or never has, may be silent."""

    def __init__(self, silent_seconds: float = SILENT_SECONDS, start_seconds: float = START_SECONDS) -> None:
        self._silent_seconds = silent_seconds
        self._beaten = HeartbeatMonitor(silent_seconds)
        self._starting = HeartbeatMonitor(start_seconds)

    def silent(self, beats: Mapping[str, int], now: float) -> list[str]:
        """The children to be killed.  beats: {child: its number of beats}; now: monotonic seconds."""
        if (self._beaten.passed(now) or 0.0) > self._beaten.longest_gap_seconds:
            self._starting.start_anew()
        frozen = self._beaten.silent({child: count for child, count in beats.items() if count}, now)
        unborn = self._starting.silent({child: 0 for child, count in beats.items() if not count}, now)
        return frozen + unborn
