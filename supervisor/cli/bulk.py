"""Commands that act on many tasks: what they would concern is shown first.

They use the database itself, so they work while web is down; a web that is up does the parts beside them, and goes on
where they are killed.  With DARKROOM_URL set, they use that service over HTTP, as the operator of DARKROOM_TOKEN.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import click

from config.settings import Settings
from supervisor.cli.base import Failed, WrongUsage, operator_of_command, settings_of_command
from supervisor.cli.shown.output import json_option, print_json, print_table
from supervisor.core.sentences import counted

LOOK_EVERY_SECONDS = 0.5
View = dict[str, Any]


class _House(Protocol):
    """Where the actions are: this database, or a service over HTTP."""

    def preview(self, action: str, words: dict[str, str]) -> View: ...
    def start(self, seen: View) -> View: ...
    def show(self, bulk_id: str) -> View: ...
    def newest(self) -> list[View]: ...
    def turn(self, bulk_id: str, how: str) -> View: ...
    def run(self, bulk_id: str, told: Callable[[View], None]) -> View: ...


class _Here:
    """An open database."""

    def __init__(self, database: Any, settings: Settings) -> None:
        from supervisor.store.operators import bulk_actions

        self._database, self._settings, self._store = database, settings, bulk_actions
        self._operator = operator_of_command()

    def preview(self, action: Any, words: dict[str, str]) -> View:
        from supervisor.selection.task_filter import read_filter

        wanted = read_filter(words, action)
        seen: View = self._database.read(lambda tx: self._store.preview(tx, self._settings, action, wanted))
        return seen

    def start(self, seen: View) -> View:
        begun: View = self._database.write_now(
            lambda tx: self._store.start(tx, self._operator, seen["action"], seen)
        )
        return begun

    def show(self, bulk_id: str) -> View:
        view: View = self._database.read(lambda tx: self._store.get(tx, bulk_id))
        return view

    def newest(self) -> list[View]:
        items: list[View] = self._database.read(self._store.newest)
        return items

    def turn(self, bulk_id: str, how: str) -> View:
        step = self._store.stop if how == "stop" else self._store.resume
        view: View = self._database.write_now(lambda tx: step(tx, self._operator, bulk_id))
        return view

    def run(self, bulk_id: str, told: Callable[[View], None]) -> View:
        from supervisor.services.bulk_action_runner import run_action

        told_at = time.monotonic()

        def tell() -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= LOOK_EVERY_SECONDS:
                told_at = time.monotonic()
                told(self.show(bulk_id))

        run_action(self._database, self._settings, bulk_id, threading.Event(), tell)
        return self.show(bulk_id)


class _There:
    """A service over HTTP, which does the parts itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def preview(self, action: str, words: dict[str, str]) -> View:
        return self._ask("POST", "/preview", {"action": action, "filter": words})

    def start(self, seen: View) -> View:
        body = {"action": seen["action"], "filter": seen["filter"], "expected": seen["count"]}
        return self._ask("POST", "", body)

    def show(self, bulk_id: str) -> View:
        return self._ask("GET", f"/{bulk_id}")

    def newest(self) -> list[View]:
        return list(self._ask("GET", "")["items"])

    def turn(self, bulk_id: str, how: str) -> View:
        return self._ask("POST", f"/{bulk_id}/{how}")

    def run(self, bulk_id: str, told: Callable[[View], None]) -> View:
        while (view := self.show(bulk_id))["state"] == "running":
            told(view)
            time.sleep(LOOK_EVERY_SECONDS)
        return view

    def _ask(self, method: str, path: str, body: View | None = None) -> View:
        from supervisor.cli.operate import ask

        more = {"json": body} if body is not None else {}
        return ask(self._settings, method, f"/v1/ops/bulk{path}", **more)


def _with_house(use: Callable[[_House], View | list[View]]) -> Any:
    from supervisor.cli.operate import with_database

    settings = settings_of_command()
    if settings.url:
        return use(_There(settings))
    return with_database(settings, lambda database: use(_Here(database, settings)))


@click.group()
def bulk() -> None:
    """Retry, cancel or release many tasks, by a filter; shows first what it would concern.

    \b
    darkroom bulk retry --code provider_down --from 2026-12-01T09:00Z --dry-run
    darkroom bulk retry --code provider_down --from 2026-12-01T09:00Z
    darkroom bulk cancel --user o-7
    darkroom bulk list
    """


def _conditions(command: Any) -> Any:
    for name, metavar, about in reversed(
        (
            ("type", "TYPE", "Only tasks of this type."),
            ("code", "CODE", "Only those with this error code."),
            ("provider", "NAME", "Only those that this AI service was, or would be, asked for."),
            ("user", "USER", "Only this user's."),
            ("text", "WORDS", "Only those whose error says this, in our words or the service's."),
            ("status", "STATUS", "Only those with this status; retry takes failed ones otherwise."),
            ("from", "TIME", "Only those that ended (open ones: were ordered) from then on; UTC."),
            ("to", "TIME", "… and not after that."),
        )
    ):
        command = click.option(f"--{name}", f"with_{name}", metavar=metavar, help=about)(command)
    command = click.option("--dry-run", is_flag=True, help="Only show what it would concern.")(command)
    command = click.option("--yes", is_flag=True, help="Do not ask; for programs.")(command)
    return json_option(command)


def _make(action: str, about: str) -> click.Command:
    @bulk.command(name=action, help=about)
    @_conditions
    def command(dry_run: bool, yes: bool, as_json: bool, **given: str | None) -> None:
        from supervisor.selection.task_filter import BadFilter

        words = {name.removeprefix("with_"): value for name, value in given.items() if value is not None}

        def use(house: _House) -> View:
            seen = house.preview(action, words)
            if dry_run:
                _show_preview(seen, as_json)
                return seen
            if not yes:
                _show_preview(seen, as_json and not seen["count"])
                if not seen["count"]:
                    return seen
                click.confirm(f"{action} {_tasks(seen)}?", abort=True, err=as_json)
            done = house.run(house.start(seen)["id"], lambda view: _tell(view, as_json))
            _show(done, as_json)
            return done

        try:
            _with_house(use)
        except BadFilter as bad:
            raise WrongUsage(f"{bad}") from None

    return command


_make("retry", "Run failed tasks again; their users pay again.")
_make("cancel", "Cancel open tasks, with their refunds.")
_make("release", "Give running tasks to other workers; waiting ones are due at once.")


@bulk.command(name="list")
@json_option
def list_actions(as_json: bool) -> None:
    """List the newest actions on many tasks."""
    items = _with_house(lambda house: house.newest())
    if as_json:
        print_json(items)
        return
    print_table(
        ("ID", "ACTION", "STATE", "DONE", "REFUSED", "MATCHED", "CREDITS", "WHO", "FILTER", "BEGUN"),
        (
            (
                each["id"],
                each["action"],
                each["state"],
                *(str(each[name]) for name in ("done", "refused", "matched", "credits")),
                each["operator"],
                _filter(each),
                each["created_at"],
            )
            for each in items
        ),
        right=("DONE", "REFUSED", "MATCHED", "CREDITS"),
    )


@bulk.command()
@click.argument("bulk_id", metavar="ID")
@json_option
def show(bulk_id: str, as_json: bool) -> None:
    """Show an action on many tasks, and how far it has come."""
    _show(_with_house(lambda house: house.show(bulk_id)), as_json)


@bulk.command()
@click.argument("bulk_id", metavar="ID")
@json_option
def stop(bulk_id: str, as_json: bool) -> None:
    """Stop an action; what is done stays done."""
    _show(_with_house(lambda house: house.turn(bulk_id, "stop")), as_json)


@bulk.command()
@click.argument("bulk_id", metavar="ID")
@json_option
def resume(bulk_id: str, as_json: bool) -> None:
    """Go on with an action that was stopped, or whose runner has died, to its end."""

    def use(house: _House) -> View:
        house.turn(bulk_id, "resume")
        return house.run(bulk_id, lambda view: _tell(view, as_json))

    _show(_with_house(use), as_json)


def _tell(view: View, as_json: bool) -> None:
    if not as_json:
        click.echo(f"{view['done'] + view['refused'] + view['passed']} of {view['matched']}", err=True)


def _tasks(seen: View) -> str:
    return counted(seen["count"], "task") if seen["count"] else "no tasks"


def _filter(view: View) -> str:
    return " ".join(f"{name}={value}" for name, value in view["filter"].items())


def _show_preview(seen: View, as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    moves = {
        "retry": f"; credits that users pay again: {seen['credits']}",
        "cancel": f"; credits that users get back: {seen['credits']}",
        "release": "; nobody pays again",
    }
    click.echo(
        f"{seen['action']} would concern {_tasks(seen)}{moves[seen['action']] if seen['count'] else ''}"
    )
    click.echo(f"filter: {_filter(seen)}")
    if not seen["count"]:
        return
    print_table(
        ("TASK", "USER", "TYPE", "STATUS", "ENDED", "ERROR"),
        (
            (
                each["task_id"],
                each["user_openid"],
                each["type"],
                each["status"],
                each["finished_at"] or "",
                f"{each['error']['code']}: {each['error']['message']}" if each["error"] else "",
            )
            for each in seen["sample"]
        ),
    )


def _show(view: View, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        click.echo(
            f"{view['id']} {view['action']} is {view['state']}: {view['done']} done, {view['refused']} refused, "
            f"{view['passed']} no longer matched, of {view['matched']}; credits {view['credits']}"
        )
        if view["failure"]:
            click.echo(f"  its runner failed: {view['failure']}")
        for each in view["reasons"]:
            click.echo(f"  {each['count']} × {each['reason']}: {' '.join(each['examples'])}")
    if view["refused"] and view["state"] == "done" and not view["done"]:
        raise Failed("Every task was refused.")


COMMANDS = [bulk]
