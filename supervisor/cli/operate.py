"""Commands for operators: show tasks of all users, cancel one, run one again.

They use the database itself, so they work while web is down.  With DARKROOM_URL set, they use that service over HTTP,
as the user of DARKROOM_TOKEN.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import click

from config.settings import Settings
from supervisor.cli.base import Failed, WrongUsage, operator_of_command, settings_of_command
from supervisor.cli.shown.output import json_option, print_either, print_json, print_table
from supervisor.cli.shown.timeline import cost_lines, log_lines, step_lines, timeline_lines, webhook_lines
from supervisor.core.errors import SettingFault

STATUSES = ("pending", "processing", "ai_processing", "completed", "failed", "cancelled")
OF_THE_STORE_ALONE = (
    "place",
    "is_in_line",
    "running_for_seconds",
    "spent_seconds",
    "due_in_seconds",
)  # these give position and ETA
HOW_TO_ACT = (
    "(“Cancel”, “Try again” and the rest: on the page /ops, or `darkroom cancel ID`, `darkroom retry ID`.)"
)
MOST_BY_HTTP = 100  # rows of a list in one answer
Task = dict[str, Any]


@click.command("tasks")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--stuck", is_flag=True, help="only those that the next sweep would rescue, with the reason")
@click.option(
    "--text", metavar="WORDS", help="only those whose error says this, in our words or the service's"
)
@click.option("--code", help="only those with this error code")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
def list_tasks(
    status: str | None, stuck: bool, text: str | None, code: str | None, limit: int, as_json: bool
) -> None:
    """List tasks, newest first.

    \b
    darkroom tasks --status failed
    darkroom tasks --stuck
    darkroom tasks --text "quota exceeded"
    darkroom tasks --json | jq -r '.[].task_id'
    """
    settings = settings_of_command()
    reasons: dict[str, str] = {}
    said = {name: value for name, value in (("text", text), ("code", code)) if value is not None}
    if said and stuck:
        raise WrongUsage(f"--stuck goes with --status alone: leave out --stuck, or --{next(iter(said))}.")
    if said:
        found = _find_tasks(settings, {**said, **({"status": status} if status else {})}, limit)
    elif settings.url and stuck:
        query = {"stuck": "true"} | ({"status": status} if status else {})
        found = list(ask(settings, "GET", "/v1/ops/tasks", params=query)["items"])[:limit]
        reasons = {task["task_id"]: task["stuck"] for task in found}
    elif settings.url:
        query = {"limit": str(min(limit, MOST_BY_HTTP))} | ({"status": status} if status else {})
        found = list(ask(settings, "GET", "/v1/tasks", params=query)["items"])
    else:
        found, reasons = _read_tasks(settings, status, stuck, limit)
    if as_json:
        stuck_by = {task_id: {"stuck": reason} for task_id, reason in reasons.items()}
        print_json([{**_shown(task), **stuck_by.get(task["task_id"], {})} for task in found])
    else:
        _print_tasks(found, reasons)
        _say_what_is_wrong(settings)


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def show(task_id: str, as_json: bool) -> None:
    """Show everything about a task: its state and the reason, its history, and its webhook's messages.

    \b
    darkroom show 01KB2Z7Q4M8N6P0R1S3T5V7W9X
    """
    settings = settings_of_command()
    if settings.url:
        view = ask(settings, "GET", f"/v1/tasks/{task_id}")
        events = ask(settings, "GET", f"/v1/tasks/{task_id}/events")["items"]
        told: dict[str, Any] = {"steps": view.pop("steps", []), "events": events}
    else:
        view, told = _read_task(settings, task_id)
    if as_json:
        print_json({**_shown(view), **told})
        return
    _print_task(view)
    click.echo("")
    if "why" in told:
        click.echo(f"{told['why']['text']}\n{HOW_TO_ACT}\n")
    for line in (*step_lines(told["steps"]), *timeline_lines(told["events"])):
        click.echo(line)
    for line in log_lines(told.get("logs", [])):
        click.echo(line)
    for line in (*webhook_lines(told.get("webhooks", [])), *cost_lines(told.get("costs", []))):
        click.echo(line)
    _say_what_is_wrong(settings)


def _say_what_is_wrong(settings: Settings) -> None:
    """Print the troubles of /ops to stderr; nothing when all is well, or for another host's service."""
    from supervisor.cli.doctor.doctor_liveness import house_troubles

    if settings.url:
        return
    for each in with_database(settings, lambda database: house_troubles(database, settings)):
        click.echo(f"{each['level']}: {each['text']}", err=True)


def _read_task(settings: Settings, task_id: str) -> tuple[Task, dict[str, Any]]:
    from supervisor.health.diagnosis import diagnose
    from supervisor.processes.host_state import is_broker_up
    from supervisor.store.operators import task_details
    from supervisor.store.queue import queue_snapshot

    is_up = is_broker_up(settings)

    def read(tx: Any) -> tuple[Task, dict[str, Any]] | None:
        found = task_details.examine(tx, settings, task_id, is_broker_up=is_up)
        if found is None:
            return None
        view = queue_snapshot.read_order(tx, settings).placed(found["view"])
        why = diagnose(found, position=view["queue_position"], eta_seconds=view["eta_seconds"])
        return view, {
            "why": why,
            "steps": found["steps"],
            "events": found["events"],
            "logs": found["logs"],
            "webhooks": found["webhooks"],
            "costs": found["costs"],
        }

    found: tuple[Task, dict[str, Any]] | None = read_database(settings, read)
    if found is None:
        raise Failed(f"There is no task {task_id}.")
    return found


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def cancel(task_id: str, as_json: bool) -> None:
    """Cancel an open task; its credits are given back.

    \b
    darkroom cancel 01KB2Z7Q4M8N6P0R1S3T5V7W9X
    """
    from supervisor.store.operators import operator_actions

    operator = operator_of_command()
    _change(task_id, "cancel", lambda settings, tx: operator_actions.cancel(tx, operator, task_id), as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def retry(task_id: str, as_json: bool) -> None:
    """Run a failed or cancelled task again; its credits are taken again.

    \b
    darkroom tasks --status failed --json | jq -r '.[].task_id' | xargs -n1 darkroom retry
    """
    from supervisor.store.operators import operator_actions

    operator = operator_of_command()
    _change(
        task_id,
        "retry",
        lambda settings, tx: operator_actions.retry(tx, settings, operator, task_id),
        as_json,
    )


@click.command()
@json_option
def sweep(as_json: bool) -> None:
    """Rescue stuck tasks and delete old rows now instead of at the next minute; may be run as often as you like."""
    from supervisor.objects.open_store import open_file_store
    from supervisor.services.sweep import sweep_now
    from supervisor.store.operators import audit

    settings = settings_of_command()
    operator = operator_of_command()

    def swept(database: Any) -> dict[str, int]:
        done = sweep_now(database, settings, open_file_store(settings))
        database.write_now(lambda tx: audit.record(tx, operator, "sweep", "sweep", "now", after=done))
        return done

    counts = (
        ask(settings, "POST", "/v1/ops/sweep")["counts"]
        if acts_elsewhere(settings)
        else with_database(settings, swept)
    )
    told = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in counts.items())
    print_either(as_json, counts, told)


def _change(task_id: str, verb: str, step: Callable[[Settings, Any], Task], as_json: bool) -> None:
    settings = settings_of_command()
    if settings.url:
        view = ask(settings, "POST", f"/v1/tasks/{task_id}/{verb}")
    else:
        view = write_database(settings, lambda tx: step(settings, tx))
    print_either(as_json, _shown(view), f"{view['task_id']} is {view['status']}")


def acts_elsewhere(settings: Settings) -> bool:
    """Whether a command that changes something is meant for the service of DARKROOM_URL: only with a DARKROOM_TOKEN,
    since hosts of the system may have the address in their settings, and need no token."""
    return bool(settings.url) and settings.token is not None


def with_database(settings: Settings, use: Callable[[Any], Any]) -> Any:
    """The result of `use` with the open database.  Raises SettingFault if it is not migrated."""
    from supervisor.database.open_database import open_database
    from supervisor.schema.migrate import check_version

    database = open_database(settings)
    try:
        try:
            check_version(database, settings)
        except SettingFault as fault:
            raise _with_advice(settings, fault) from None
        return use(database)
    finally:
        database.close()


def _with_advice(settings: Settings, fault: SettingFault) -> Exception:
    """Where the address of a service is set, it may be meant, and not the database here."""
    if not settings.url:
        return fault
    return WrongUsage(
        f"{fault} Without DARKROOM_TOKEN this command acts on the database of this host; to act at {settings.url}, set "
        "DARKROOM_TOKEN."
    )


def read_database(settings: Settings, query: Callable[[Any], Any]) -> Any:
    """The result of a query.  Raises SettingFault."""
    return with_database(settings, lambda database: database.read(query))


def write_database(settings: Settings, step: Callable[[Any], Any]) -> Any:
    """The result of a step that writes.  Raises SettingFault, and what the step raises."""
    return with_database(settings, lambda database: database.write_now(step))


def ask(settings: Settings, method: str, path: str, **options: Any) -> dict[str, Any]:
    """The JSON answer of the service that DARKROOM_URL names.  Raises Failed with its sentence."""
    from supervisor.cli.api_client import ApiError, api_of
    from supervisor.cli.submit import DEFAULT_USER

    async def call() -> dict[str, Any]:
        async with api_of(settings, DEFAULT_USER) as api:
            return await api.call(method, path, **options)

    try:
        return asyncio.run(call())
    except ApiError as error:
        raise Failed(str(error)) from None


def _find_tasks(settings: Settings, words: dict[str, str], limit: int) -> list[Task]:
    """Tasks that meet a filter, the newest.  Raises WrongUsage."""
    from supervisor.selection.task_filter import BadFilter, read_filter
    from supervisor.store.operators import task_search
    from supervisor.store.tasks import user_actions

    if settings.url:
        return list(ask(settings, "GET", "/v1/ops/tasks", params=words)["items"])[:limit]
    try:
        wanted = read_filter(words)
    except BadFilter as bad:
        raise WrongUsage(str(bad)) from None

    def read(tx: Any) -> list[Task]:
        found = task_search.newest(tx, settings, wanted, limit)
        views = (user_actions.get(tx, each["task_id"]) for each in found)
        return [view for view in views if view is not None]

    tasks: list[Task] = read_database(settings, read)
    return tasks


def _read_tasks(
    settings: Settings, status: str | None, stuck: bool, limit: int
) -> tuple[list[Task], dict[str, str]]:
    from supervisor.store.recovery import stuck_views
    from supervisor.store.tasks import user_actions

    def read(tx: Any) -> tuple[list[Task], dict[str, str]]:
        if not stuck:
            return user_actions.page(tx, None, status=status, limit=limit).items, {}
        found = stuck_views.read(tx, limit, status=status)
        return [view for view, _ in found], {view["task_id"]: reason for view, reason in found}

    found: tuple[list[Task], dict[str, str]] = read_database(settings, read)
    return found


def _shown(view: Task) -> Task:
    return {name: value for name, value in view.items() if name not in OF_THE_STORE_ALONE}


def _print_tasks(found: list[Task], reasons: dict[str, str]) -> None:
    def last(task: Task) -> str:
        if task["task_id"] in reasons:
            return f"stuck: {reasons[task['task_id']]}"
        return str((task.get("error") or {}).get("code", ""))

    print_table(
        ("TASK", "USER", "TYPE", "STATUS", "%", "ATTEMPT", "CREATED", "ERROR"),
        (
            (
                task["task_id"],
                task.get("user_openid", ""),
                task["type"],
                task["status"],
                str(task["progress"]),
                f"{task['attempt']}/{task['max_attempts']}",
                task["created_at"],
                last(task),
            )
            for task in found
        ),
        right=("%", "ATTEMPT"),
    )
    if not found:
        click.echo("no tasks", err=True)


def _print_task(view: Task) -> None:
    for name, value in view.items():
        if name == "error" and value:
            value = f"{value['code']}: {value['message']}"
        elif name == "result" and value:
            lines = [f"{i['width']}×{i['height']}  {i.get('url') or i.get('key')}" for i in value["images"]]
            others = value.get("outputs") or value  # as the store has them, or as HTTP shows them
            lines += [
                f"{each['media_type']}, {each['bytes']:,} bytes  {each.get('url') or each.get('key')}"
                for each in others.get("files") or ()
            ]
            if others.get("data") is not None:
                lines.append(f"data: {json.dumps(others['data'], ensure_ascii=False)}")
            value = "\n".join(lines)
            value = value.replace("\n", "\n" + " " * 16)
        click.echo(f"{name:15} {'-' if value is None else value}")


COMMANDS = [list_tasks, show, cancel, retry, sweep]
