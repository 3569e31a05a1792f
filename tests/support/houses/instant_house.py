"""A running system for `instant` tasks: orders by HTTP or SQL, and questions about its state."""

from __future__ import annotations

import json
import threading
import urllib.request

from tests.support.running_system import RunningSystem

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'instant', ?)"


def listener_up(system: RunningSystem) -> float:
    """The gauge of the web's listener."""
    with urllib.request.urlopen(f"{system.url}/metrics", timeout=60) as answer:
        (line,) = [
            line for line in answer.read().decode().splitlines() if line.startswith("darkroom_listener_up ")
        ]
    return float(line.split()[1])


INSTANT = {
    "TASKS__instant__PROVIDER": "instant",
    "PROVIDERS__instant__KIND": "python",
    "PROVIDERS__instant__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "CREDITS__ENABLED": "true",
    "CREDITS__SIGNUP_GRANT": "1000",
}


class Recorder:
    """Writes down every event of one user's feed."""

    def __init__(self, system: RunningSystem, token: str) -> None:
        request = urllib.request.Request(
            f"{system.url}/v1/works/feed", headers={"Authorization": f"Bearer {token}"}
        )
        self._response = urllib.request.urlopen(request, timeout=120)
        self.events: list[dict] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._response:
            if line.startswith(b"data: "):
                self.events.append(json.loads(line[6:]))

    def completed(self) -> int:
        return sum(
            change["doc"]["status"] == "completed" for event in self.events for change in event["docChanges"]
        )
