"""Commands of whoever runs the system: look at tasks of all users, stop one, run one again.

They speak to the database itself, so they work while web is down.  With DARKROOM_URL set they ask that service over
HTTP, as the user of DARKROOM_TOKEN.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import click

from config.settings import Settings
from supervisor.cli import Failed, settings_of_command
from supervisor.cli.timeline import timeline_lines

STATUSES = ("pending", "processing", "ai_processing", "completed", "failed", "cancelled")
Task = dict[str, Any]


@click.command("tasks")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--stuck", is_flag=True, help="only those that the next sweep would rescue, with the reason")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_tasks(status: str | None, stuck: bool, limit: int) -> None:
    """List tasks, newest first."""
    settings = settings_of_command()
    reasons: dict[str, str] = {}
    if settings.url and not stuck:
        query = {"limit": str(min(limit, 100))} | ({"status": status} if status else {})
        found = list(_ask(settings, "GET", "/v1/tasks", params=query)["items"])
    else:
        found, reasons = _read_tasks(settings, status, stuck, limit)
    _print_tasks(found, reasons)


@click.command()
@click.argument("task_id", metavar="ID")
@click.option(
    "--json", "as_json", is_flag=True, help="one JSON object: the task, and its history as `events`"
)
def show(task_id: str, as_json: bool) -> None:
    """Show everything about a task: how it stands, and what has happened to it."""
    settings = settings_of_command()
    if settings.url:
        view = _ask(settings, "GET", f"/v1/tasks/{task_id}")
        events = list(_ask(settings, "GET", f"/v1/tasks/{task_id}/events")["items"])
    else:
        view, events = _read_task(settings, task_id)
    if as_json:
        click.echo(json.dumps({**view, "events": events}, ensure_ascii=False, indent=2))
        return
    _print_task(view)
    click.echo("")
    for line in timeline_lines(events):
        click.echo(line)


def _read_task(settings: Settings, task_id: str) -> tuple[Task, list[Task]]:
    from supervisor.store import history, places, tasks

    def read(tx: Any) -> tuple[Task, list[Task]] | None:
        view = tasks.get(tx, task_id)
        if view is None:
            return None
        return places.read_order(tx, settings.tasks).placed(view), history.timeline(tx, task_id) or []

    found: tuple[Task, list[Task]] | None = _with_database(settings, lambda database: database.read(read))
    if found is None:
        raise Failed(f"There is no task {task_id}.")
    return found


@click.command()
@click.argument("task_id", metavar="ID")
def cancel(task_id: str) -> None:
    """Cancel an open task; its credits are given back."""
    from supervisor.store import tasks

    _change(task_id, "cancel", lambda settings, tx: tasks.cancel(tx, task_id))


@click.command()
@click.argument("task_id", metavar="ID")
def retry(task_id: str) -> None:
    """Run a failed or cancelled task again; its credits are taken again."""
    from supervisor.store import tasks

    _change(task_id, "retry", lambda settings, tx: tasks.resubmit(tx, settings, task_id))


@click.command()
def sweep() -> None:
    """Rescue stuck tasks and prune old rows now instead of at the next minute."""
    from supervisor.files import open_file_store
    from supervisor.sweeping import sweep_now

    settings = settings_of_command()
    files = open_file_store(settings)
    counts = _with_database(settings, lambda database: sweep_now(database, settings, files))
    click.echo(", ".join(f"{number} {what.replace('_', ' ')}" for what, number in counts.items()))


def _change(task_id: str, verb: str, step: Callable[[Settings, Any], Task]) -> None:
    settings = settings_of_command()
    if settings.url:
        view = _ask(settings, "POST", f"/v1/tasks/{task_id}/{verb}")
    else:
        view = _with_database(settings, lambda database: database.write_now(lambda tx: step(settings, tx)))
    click.echo(f"{view['task_id']} is {view['status']}")


def _with_database(settings: Settings, use: Callable[[Any], Any]) -> Any:
    """What `use` makes of the open database.  Raises SettingFault for one that is not migrated."""
    from supervisor.database import open_database
    from supervisor.schema.migrate import check_version

    database = open_database(settings)
    try:
        check_version(database, settings)
        return use(database)
    finally:
        database.close()


def _ask(settings: Settings, method: str, path: str, **options: Any) -> dict[str, Any]:
    from supervisor.cli.api import Api, ApiError, bearer_token, service_address
    from supervisor.cli.orders import DEFAULT_USER

    async def call() -> dict[str, Any]:
        async with Api(service_address(settings), bearer_token(settings, DEFAULT_USER)) as api:
            return await api.call(method, path, **options)

    try:
        return asyncio.run(call())
    except ApiError as error:
        raise Failed(str(error)) from None


def _read_tasks(
    settings: Settings, status: str | None, stuck: bool, limit: int
) -> tuple[list[Task], dict[str, str]]:
    from supervisor.store import rescuing, tasks

    def read(tx: Any) -> tuple[list[Task], dict[str, str]]:
        if not stuck:
            return tasks.page(tx, None, status=status, limit=limit).items, {}
        reasons = rescuing.stuck_ids(tx)
        views = [view for task_id in list(reasons)[:limit] if (view := tasks.get(tx, task_id)) is not None]
        return [view for view in views if status in (None, view["status"])], reasons

    found: tuple[list[Task], dict[str, str]] = _with_database(settings, lambda database: database.read(read))
    return found


def _print_tasks(found: list[Task], reasons: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TASK", "USER", "TYPE", "STATUS", "%", "ATTEMPT", "CREATED", "ERROR"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("%", "ATTEMPT") else "left")
    for task in found:
        error = (task.get("error") or {}).get("code", "")
        table.add_row(
            task["task_id"],
            task.get("user_openid", ""),
            task["type"],
            task["status"],
            str(task["progress"]),
            f"{task['attempt']}/{task['max_attempts']}",
            task["created_at"],
            f"stuck: {reasons[task['task_id']]}" if task["task_id"] in reasons else error,
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe gets whole lines, whatever a terminal's width would be
    console.print(table)
    if not found:
        click.echo("no tasks", err=True)


def _print_task(view: Task) -> None:
    for name, value in view.items():
        if name == "error" and value:
            value = f"{value['code']}: {value['message']}"
        elif name == "result" and value:
            value = "\n".join(
                f"{i['width']}×{i['height']}  {i.get('url') or i.get('key')}" for i in value["images"]
            )
            value = value.replace("\n", "\n" + " " * 16)
        click.echo(f"{name:15} {'-' if value is None else value}")


COMMANDS = [list_tasks, show, cancel, retry, sweep]
