"""The screen of `darkroom top`: from what is seen to lines that fit the terminal.  Pure, but for rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.cli.shown.history_lines import sparkline

View = dict[str, Any]

KEYS = "q quits · p pauses the screen"
_NUMBERS = ("WAITING", "DUE", "OLDEST", "RUNNING", "AT SERVICES", "SLOTS", "BEAT", "%", "FOR", "STILL")
_LEVELS = {"bad": "bold red", "warn": "yellow"}


def screen(seen: View, troubles: Sequence[View], week: View, *, height: int, is_held: bool) -> RenderableType:
    """The system at this moment.  height: of the terminal, in lines; the longest lists are cut to fit."""
    head = Text(f"darkroom top  {seen['at']}   ", style="bold")
    head.append("held " if is_held else "", style="reverse")
    head.append(KEYS, style="dim")
    queue, workers = _queue(seen), _workers(seen)
    parts: list[RenderableType] = [head, *_troubles(troubles), _figures(seen, week), queue, workers]
    used = 3 + len(troubles[:3]) + queue.row_count + 1 + workers.row_count + 1 + 4
    if (room := height - used - 2) >= 2:
        parts.append(_running(seen, room))
    return Group(*parts)


def _troubles(troubles: Sequence[View]) -> list[Text]:
    if not troubles:
        return [Text("All is well.", style="green")]
    return [Text(f"! {each['text']}", style=_LEVELS.get(each["level"], ""), overflow="ellipsis", no_wrap=True)
            for each in troubles[:3]]  # fmt: skip


def _figures(seen: View, week: View) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    points = week["points"]

    def line(name: str, now: object, of: str) -> None:
        values = [each[of] or 0 for each in points]
        table.add_row(Text(name), Text(str(now), style="bold"), Text(sparkline(values, 40), style="cyan"))

    queue = seen["queue"]
    line("waiting", sum(each["pending"] for each in queue), "pending")
    line("running", sum(each["processing"] + each["ai_processing"] for each in queue), "running")
    line("stuck", sum(seen["stuck_counts"].values()), "stuck")
    line("failed, hour", sum(each["count"] for each in seen["failures"]), "failed")
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold underline")
    for title in titles:
        justify: Any = "right" if title in _NUMBERS else "left"
        table.add_column(title, no_wrap=True, overflow="ellipsis", justify=justify)
    return table


def _queue(seen: View) -> Table:
    table = _table("TYPE", "WAITING", "DUE", "OLDEST", "RUNNING", "AT SERVICES", "PROVIDER")
    for each in seen["queue"][:6]:
        paused = " (paused)" if each["is_paused"] else ""
        table.add_row(*_texts(
            each["type"] + paused, each["pending"], each["due"], f"{each['oldest_seconds']:.0f} s", each["processing"],
            each["ai_processing"], each["provider"] or "–",
        ))  # fmt: skip
    return table


def _workers(seen: View) -> Table:
    table = _table("WORKER", "HOST", "STATE", "SLOTS", "BEAT")
    for each in seen["workers"][:6]:
        busy = f"{max(each['busy'], each['held'])}/{each['slots']}"
        state = each["state"] if each["is_fresh"] or each["state"] == "dead" else "silent"
        table.add_row(*_texts(each["id"], each["host"], state, busy, f"{each['silent_seconds']:.0f} s"))
    return table


def _running(seen: View, room: int) -> Table:
    table = _table("TASK", "USER", "TYPE", "STAGE", "%", "FOR", "STILL")
    rows = sorted(seen["running"], key=lambda each: -(each["unchanged_seconds"] or 0))
    for each in rows[: room - 1]:
        table.add_row(*_texts(
            each["task_id"], each["user_openid"], each["type"], each["stage"], each["progress"],
            f"{each['running_seconds'] or 0:.0f} s", f"{each['unchanged_seconds'] or 0:.0f} s",
        ))  # fmt: skip
    return table


def _texts(*cells: object) -> list[Text]:
    """Text from users is not markup."""
    return [Text(str(cell)) for cell in cells]
