"""Draw one work's progress while its event stream runs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from supervisor.cli.api_client import Api


async def follow(api: Api, work_id: str, title: str) -> dict[str, Any]:
    """The work's final document; meanwhile a bar on stderr, or plain lines without a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} % {task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    doc: dict[str, Any] = {}
    shown = ""
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=100, stage="")
        async for doc in api.task_events(work_id):
            stage = doc["stage"] or doc["status"]
            progress.update(bar, completed=doc["progress"], stage=stage)
            if not console.is_terminal and stage != shown:
                console.print(f"{title}  {doc['progress']:3} % {stage}", highlight=False, soft_wrap=True)
                shown = stage
    return doc
