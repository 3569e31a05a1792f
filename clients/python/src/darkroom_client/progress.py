"""A bar for each task in a terminal.  Needs the extra `rich`: `pip install "darkroom-client[rich]"`.

with ProgressBars() as bars:
    task = client.run("photography", images="portrait.png", on_progress=bars.show)
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from typing_extensions import Self

from darkroom_client.models import Work


class ProgressBars:
    """console: where to draw; the terminal if None."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[stage]}"), TimeElapsedColumn(),
        )  # fmt: skip
        self._progress = Progress(*columns, console=console)
        self._bars: dict[str, TaskID] = {}

    def show(self, work: Work) -> None:
        """Draw the state of a task."""
        if work.task_id not in self._bars:
            self._bars[work.task_id] = self._progress.add_task(work.type, total=100, stage="")
        stage = work.error.message if work.error else work.stage or work.status
        self._progress.update(self._bars[work.task_id], completed=work.progress, stage=stage)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._progress.stop()
