"""The progress of a running workflow, from the messages of ComfyUI's WebSocket.  Pure.

A node counts as many steps as it reports (a sampler perhaps twenty); one without a report yet counts one.  Nodes with
cached results never report, so the figure is rather too low than too high.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class WorkflowProgress:
    """Of one prompt.  nodes: how many the workflow has."""

    def __init__(self, prompt_id: str, nodes: int) -> None:
        self._prompt_id, self._nodes = prompt_id, nodes
        self._steps: dict[str, tuple[float, float]] = {}  # node: (done, of)
        self.ended = False

    def take(self, text: str) -> None:
        """Take a text message; messages about other prompts, and unknown ones, are ignored."""
        try:
            message = json.loads(text)
            kind, data = message["type"], message["data"]
        except (ValueError, TypeError, KeyError):
            return
        if not isinstance(data, Mapping) or data.get("prompt_id", self._prompt_id) != self._prompt_id:
            return
        if kind == "progress_state":
            nodes = data.get("nodes")
            for node, state in nodes.items() if isinstance(nodes, Mapping) else ():
                self._note(str(node), state)
        elif kind == "progress":
            self._note(str(data.get("node")), data)
        elif kind == "execution_cached":
            nodes = data.get("nodes")
            for node in nodes if isinstance(nodes, list) else ():
                self._steps[str(node)] = (1.0, 1.0)
        elif kind == "executed":
            _, steps = self._steps.get(str(data.get("node")), (1.0, 1.0))
            self._steps[str(data.get("node"))] = (steps, steps)
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            self.ended = True

    def percent(self) -> int | None:
        """0-99; None without a report."""
        if not self._steps:
            return None
        done = sum(done for done, _ in self._steps.values())
        steps = sum(steps for _, steps in self._steps.values()) + max(0, self._nodes - len(self._steps))
        return min(99, int(100 * done / steps)) if steps > 0 else None

    def _note(self, node: str, state: Any) -> None:
        try:
            steps = max(1.0, float(state.get("max") or 1))
            done = steps if state.get("state") == "finished" else float(state.get("value") or 0)
        except (AttributeError, TypeError, ValueError):
            return
        self._steps[node] = (min(done, steps), steps)
