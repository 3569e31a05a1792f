"""One user as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from supervisor.core.sentences import counted

View = dict[str, Any]


def user_lines(seen: View) -> Iterator[str]:
    """The user's state, then what is open, what was refused, and the ledger, the newest first."""
    yield f"user            {seen['user']}, since {seen['since']}"
    block = seen["block"]
    yield f"blocked         {'no' if block is None else block['since'] + ': ' + block['reason']}"
    yield f"credits         {seen['balance']}; taken in the last day: {seen['spent_of_day']}"
    for each in seen["limits"]:
        most = each["most"] or "no limit"
        yield f"{each['name'].replace('_', ' '):15} {each['used']} of {most}"
    yield ""
    yield f"open tasks: {len(seen['open']) or 'none'}"
    for each in seen["open"]:
        yield f"  {each['task_id']}  {each['type']}  {each['status']}  {each['progress']} %  {each['created_at']}"
    yield f"refused in the last day: {len(seen['refusals']) or 'nothing'}"
    for each in seen["refusals"]:
        words = f": {each['message']}" if each["message"] else ""
        times = counted(each["times"], each["what"].removesuffix("s"))
        yield f"  {times}, {each['reason']}{words} (last {each['last_at']})"
    yield "ended tasks:"
    for each in seen["ended"]:
        error = f"  {each['error']['code']}: {each['error']['message']}" if each["error"] else ""
        yield f"  {each['task_id']}  {each['type']}  {each['status']}  {each['finished_at']}{error}"
    yield "ledger:"
    for each in seen["entries"]:
        yield f"  {each['at']}  {each['amount']:+d}  {each['kind']}  {each['task_id'] or ''}".rstrip()
