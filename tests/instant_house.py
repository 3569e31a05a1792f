"""What tests do with a running house that makes `instant` tasks: order by either door, and ask how it is."""

from __future__ import annotations

import json
import urllib.request

from bench.running_system import RunningSystem
from supervisor.security.tokens import make_user_token

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'instant', ?)"


def token(system: RunningSystem, user: str) -> str:
    return make_user_token((system.data_dir / "secret").read_text().strip(), user, ttl_seconds=600)


def submit(system: RunningSystem, user: str, image: str) -> str:
    """Order over HTTP; the task's id."""
    request = urllib.request.Request(
        f"{system.url}/v1/tasks",
        json.dumps({"type": "instant", "params": {"images": [image]}}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token(system, user)}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 202
        return str(json.load(answer)["task_id"])


def listener_up(system: RunningSystem) -> float:
    """The gauge of the web's listener."""
    with urllib.request.urlopen(f"{system.url}/metrics", timeout=60) as answer:
        (line,) = [
            line for line in answer.read().decode().splitlines() if line.startswith("darkroom_listener_up ")
        ]
    return float(line.split()[1])
