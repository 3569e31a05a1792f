"""Commands that look at the whole system: its costs, its last week, what was given up, and all of it live."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import click

from config.settings import Settings
from supervisor.cli.base import WrongUsage, settings_of_command
from supervisor.cli.shown.output import json_option, print_either, print_json, print_table

DAY_OR_TIME = "a day such as 2026-12-01, or a time such as 2026-12-01T09:00:00Z"


@click.command()
@click.option("--since", metavar="DAY", help="From this day on, or this time (UTC); without it, this month.")
@json_option
def costs(since: str | None, as_json: bool) -> None:
    """Show the costs that AI services reported, beside the credits taken for them.

    Exact sums of the costs in their answers (`cost` and `cost_unit` of a provider), separately for each unit; services
    that report no cost are not listed. Credits are debits less refunds in the same time.

    \b
    darkroom costs --since 2026-12-01
    darkroom costs --since 2026-12-01 --json | jq '.costs[] | select(.unit == "USD")'
    """
    from supervisor.store.ledger import provider_costs

    moment = _moment(since)
    told = _seen("costs", lambda tx, _: provider_costs.told_since(tx, moment), since=moment)
    if as_json:
        print_json(told)
        return
    print_table(
        ("PROVIDER", "TYPE", "REQUESTS", "COST", "UNIT"),
        (
            (each["provider"], each["type"], str(each["requests"]), each["cost"], each["unit"])
            for each in told["costs"]
        ),
        right=("REQUESTS", "COST"),
    )
    click.echo("")
    print_table(
        ("TYPE", "DEBITED", "REFUNDED", "CREDITS TAKEN"),
        (
            (
                each["type"] or "(forgotten)",
                str(each["debited"]),
                str(each["refunded"]),
                str(each["taken"]),
            )
            for each in told["credits"]
        ),
        right=("DEBITED", "REFUNDED", "CREDITS TAKEN"),
    )
    if not told["costs"]:
        click.echo(f"no service has said a cost since {moment}", err=True)


def _moment(since: str | None) -> str:
    """In UTC, in the database's form of a time.  Raises WrongUsage."""
    now = datetime.datetime.now(datetime.UTC)
    if since is None:
        moment = datetime.datetime(now.year, now.month, 1, tzinfo=datetime.UTC)
    else:
        try:
            moment = datetime.datetime.fromisoformat(since)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.UTC)
            moment = moment.astimezone(datetime.UTC)
        except (ValueError, OverflowError):  # no time, or before the year 1 or after 9999 in UTC
            raise WrongUsage(f"--since is {since!r}, but may be {DAY_OR_TIME}.") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@click.command()
@click.option("--hours", type=click.IntRange(1, 168), default=168, show_default=True, help="How far back.")
@json_option
def history(hours: int, as_json: bool) -> None:
    """Show the last week: queue, waits, ends, spending, and when the program was changed.

    \b
    darkroom history --hours 24
    darkroom history --json | jq '.points[-1]'
    """
    from supervisor.cli.shown.history_lines import history_lines

    week = _history(hours)
    print_either(as_json, week, history_lines(week))


@click.command()
@json_option
def dead(as_json: bool) -> None:
    """Show dead letters: failed tasks by reason, refused orders by Dramatiq, webhooks that were given up.

    `darkroom bulk retry --code CODE --type TYPE` tries such tasks again.

    \b
    darkroom dead
    """
    from supervisor.cli.shown.history_lines import dead_lines

    letters = _dead_letters()
    print_either(as_json, letters, dead_lines(letters))


@click.command()
@click.option("--every", type=click.FloatRange(0.2, 60), default=2.0, show_default=True, metavar="SECONDS")
@json_option
def top(every: float, as_json: bool) -> None:
    """Show the system live in a terminal: troubles, queue, workers and running tasks, as /ops does.

    q quits, p pauses. Where the output is no terminal: one screen. With --json: once, everything that /ops is shown.

    \b
    darkroom top
    DARKROOM_URL=https://photos.example.org DARKROOM_TOKEN=$VIEWER darkroom top
    """
    settings = settings_of_command()
    if as_json:
        print_json(_overview(settings))
        return
    import time

    from rich.console import Console
    from rich.live import Live

    from supervisor.cli.shown.keyboard import keys
    from supervisor.cli.shown.top_screen import screen

    console, is_held, week_at = Console(), False, -60.0
    week: dict[str, Any] = {"points": []}
    seen = _overview(settings)
    if not console.is_terminal:
        height = console.size.height
        console.print(screen(seen, seen["troubles"], _history(24), height=height, is_held=False))
        return
    with keys() as read, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            if not is_held:
                seen = _overview(settings)
            if time.monotonic() - week_at >= 60:
                week_at = time.monotonic()
                week = _history(24)
            live.update(
                screen(seen, seen["troubles"], week, height=console.size.height, is_held=is_held),
                refresh=True,
            )
            key = read(every)
            if key in ("q", "\x1b"):
                return
            if key == "p":
                is_held = not is_held


def _overview(settings: Settings) -> dict[str, Any]:
    """The overview of /ops, with its troubles."""
    from supervisor.cli.doctor.doctor_liveness import house_seen
    from supervisor.cli.operate import ask, with_database
    from supervisor.health.troubles import troubles

    if settings.url:
        return ask(settings, "GET", "/v1/ops/overview")
    seen: dict[str, Any] = with_database(settings, lambda database: house_seen(database, settings))
    return {**seen, "troubles": troubles(seen)}


def _history(hours: int) -> Any:
    from supervisor.store.operators import week_history

    return _seen("history", lambda tx, _: week_history.read(tx, hours), hours=str(hours))


def _dead_letters() -> Any:
    from supervisor.store.operators import dead_letters

    return _seen("dead-letters", dead_letters.read)


def _seen(path: str, read: Callable[[Any, Settings], Any], **query: str) -> Any:
    """What the service of DARKROOM_URL answers at this address of the operators, or what this reads here."""
    from supervisor.cli.operate import ask, read_database

    settings = settings_of_command()
    if settings.url:
        return ask(settings, "GET", f"/v1/ops/{path}", params=query)
    return read_database(settings, lambda tx: read(tx, settings))


COMMANDS = [costs, history, dead, top]
