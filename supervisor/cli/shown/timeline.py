"""A task's history as lines for people."""

from __future__ import annotations

import datetime
from typing import Any

Happening = dict[str, Any]


def timeline_lines(items: list[Happening]) -> list[str]:
    """One line for each step: its time, the time since the step before, its name and its details."""
    lines = []
    before: datetime.datetime | None = None
    for each in items:
        at = datetime.datetime.fromisoformat(each["at"])
        since = "" if before is None else f"+{_span((at - before).total_seconds())}"
        before = at
        lines.append(f"{each['at']}  {since:>9}  {each['event']:<14} {_what(each)}".rstrip())
    return lines


def webhook_lines(deliveries: list[Happening]) -> list[str]:
    """A task's webhook deliveries: a heading for each, and under it a line for each attempt."""
    lines = []
    for each in deliveries:
        lines += ["", f"webhook {each['id']}  {each['type']} to {each['url']}: {each['state']}"]
        for tried in each["tries"]:
            lines.append(f"{tried['at']}  attempt {tried['attempt']}: {_became(tried)}")
        if each["state"] == "waiting":
            lines.append(f"{each['due_at']}  due")
    return lines


def log_lines(logs: list[Happening]) -> list[str]:
    """The last log lines of attempts that did not succeed: a heading for each attempt, and its lines below."""
    lines = []
    for each in logs:
        lines += ["", f"log of attempt {each['attempt']}, lease {each['lease']}, worker {each['worker']}:"]
        lines += [f"  {line}" for text in each["lines"] for line in text.split("\n")]
    return lines


def cost_lines(costs: list[Happening]) -> list[str]:
    """The reported costs of the task's requests, one line each."""
    lines = [
        f"{each['at']}  attempt {each['attempt']}, lease {each['lease']}: "
        f"{each['provider']} took {each['cost']} {each['unit']}"
        for each in costs
    ]
    return ["", *lines] if lines else []


def step_lines(steps: list[Happening]) -> list[str]:
    """The steps of a task of a type with steps, one line each."""
    longest = max((len(each["name"]) for each in steps), default=0)
    lines = [f"{each['name']:<{longest}}  {each['status']:<9} {_of_step(each)}".rstrip() for each in steps]
    return [*lines, ""] if lines else []


def _of_step(each: Happening) -> str:
    said = [f"{each['progress']} %"] if each["status"] == "running" else []
    if each["run_seconds"] is not None:
        said.append(_span(each["run_seconds"]))
    said += [f"{amount} {unit}" for unit, amount in each["cost"].items()]
    return ", ".join(said)


def _became(tried: Happening) -> str:
    if tried["ended_at"] is None:
        return "its outcome is not known yet"
    if tried["error"] is None:
        return f"delivered ({tried['status']})"
    return f"{tried['error']}" + (f" Next at {tried['next_at']}." if tried["next_at"] else "")


def _what(each: Happening) -> str:
    said = [each["step"]] if each.get("step") else []  # a server of an older program has none
    if each["attempt"] and each["event"] not in ("submitted", "admitted", "resubmitted"):
        said.append(f"attempt {each['attempt']}, lease {each['lease']}")
    if each["worker"]:
        said.append(f"worker {each['worker']}")
    if each["run_after"]:
        said.append(f"due {each['run_after']}")
    if each["credits"] is not None:
        said.append(f"{each['credits']:+d} {'credit' if abs(each['credits']) == 1 else 'credits'}")
    if each["error"]:
        said.append(f"{each['error']['code']}: {each['error']['message']}")
        if each["error"].get("detail"):
            said.append(f"the service said: {each['error']['detail']}")
    return ", ".join(said)


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m {rest:02}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02}m"
