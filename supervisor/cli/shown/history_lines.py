"""The last week and the dead letters, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

View = dict[str, Any]
_BARS = " ▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Values as a row of blocks with eight heights.  More values than `width`: each block shows the highest of its
    part."""
    if not values:
        return ""
    size = -(-len(values) // width)
    parts = [max(values[n : n + size]) for n in range(0, len(values), size)]
    top = max(parts)
    return "".join(
        _BARS[round(max(0.0, each) / top * (len(_BARS) - 1))] if top > 0 else " " for each in parts
    )


def figure(value: float) -> str:
    """A number for people: two digits after the point; two significant digits if it is very small."""
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{round(value, 2):,.12g}"


def history_lines(seen: View) -> Iterator[str]:
    """A line for each figure, and one for each deploy."""
    points = seen["points"]
    if not points:
        yield "nothing is known yet: the sweep writes a row a minute"
        return
    each_of = "a minute" if seen["minutes"] == 1 else f"{seen['minutes']} minutes"
    yield f"from {points[0]['at']} to {points[-1]['at']}, a point for {each_of}"
    for title, name in (
        ("waiting", "pending"),
        ("running", "running"),
        ("stuck", "stuck"),
        ("oldest due, s", "oldest_seconds"),
        ("mean wait, s", "wait_seconds"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("credits", "credits"),
    ):
        values = [each[name] or 0 for each in points]
        yield f"{title:14} |{sparkline(values)}| up to {figure(max(values))}"
    for unit in sorted({unit for each in points for unit in each["costs"]}):
        values = [each["costs"].get(unit, 0.0) for each in points]
        yield f"{'costs, ' + unit:14} |{sparkline(values)}| {figure(sum(values))} in all"
    for each in seen["deploys"]:
        yield f"deploy         {each['at']}  {each['program']}"


def dead_lines(seen: View) -> Iterator[str]:
    """Failed tasks by reason, refused orders, webhooks that were given up."""
    yield f"failed tasks of the last {seen['days']} days: {sum(each['count'] for each in seen['tasks']) or 'none'}"
    for each in seen["tasks"]:
        yield (
            f"  {each['count']:>6} × {each['type']}  {each['code']}: {each['message']} "
            f"(last {each['last_at']}, {each['last_task']})"
        )
    yield f"refused orders by Dramatiq: {len(seen['orders']) or 'none'}"
    for each in seen["orders"]:
        yield f"  {each['at']}  {each['user_openid']}  {each['type']}: {each['reason']}"
    yield f"webhooks that were given up: {len(seen['webhooks']) or 'none'}"
    for each in seen["webhooks"]:
        yield f"  {each['id']}  {each['url']}: {each['last_error']}"
