"""Commands that run the system: all of it under a supervisor, or one part alone.

The parts are programs of other packages.  They are started as programs, so this package does not depend on them: web
and dispatcher run in this process (so `ps` shows `darkroom web`), worker and scheduler replace it by dramatiq and
periodiq.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import sys

import click

from supervisor.cli.base import WrongUsage, settings_of_command
from supervisor.cli.shown.output import json_option, print_json


@click.command()
def up() -> None:
    """Run everything on this host; Ctrl-C drains, twice stops at once.

    \b
    darkroom up
    DARKROOM_PORT=0 DARKROOM_DATA_DIR=/tmp/try darkroom up
    """
    from supervisor.processes.lean_imports import import_lean

    import_lean()
    from supervisor.cli.up import run_up

    status = run_up(settings_of_command())
    sys.stdout.flush()
    # Everything is committed and stopped; a helper that hangs in the database must not delay the end.
    os._exit(status)


@click.command()
def web() -> None:
    """Run the HTTP part alone."""
    _run_module("web.__main__")


@click.command()
def dispatcher() -> None:
    """Run a dispatcher alone; of several, one works."""
    _run_module("actors.dispatcher.dispatcher")


@click.command()
@click.option("--exit-when-idle", "idle_seconds", type=click.FloatRange(min=0), metavar="SECONDS",
              help="end in good order after so long without a task; without it, never")  # fmt: skip
def worker(idle_seconds: float | None) -> None:
    """Run a worker process alone; the same as `dramatiq actors`.

    \b
    darkroom worker
    DARKROOM_WORKER_OFFERS__gpu=1 darkroom worker --exit-when-idle 600
    """
    from supervisor.cli.up import worker_argv

    if idle_seconds is not None:
        if not math.isfinite(idle_seconds):
            raise WrongUsage("--exit-when-idle is a number of seconds; leave it out to stay for ever.")
        os.environ["DARKROOM_WORKER_EXIT_WHEN_IDLE_SECONDS"] = str(idle_seconds)
    _become(worker_argv(settings_of_command()))


@click.command()
def scheduler() -> None:
    """Run the minute's scheduler alone; the same as `periodiq actors`, once the broker answers."""
    from supervisor.broker.broker_ping import reach_broker
    from supervisor.cli.up import scheduler_argv
    from supervisor.database.outage_wait import until_it_works

    settings = settings_of_command()
    until_it_works(lambda: reach_broker(settings), say=_say)  # periodiq ends without a broker
    _become(scheduler_argv())


@click.command()
@click.option("--restored", is_flag=True, help="the database comes from a backup: every feed begins anew")
@click.option("--wait", "wait_seconds", type=click.FloatRange(min=0), metavar="SECONDS",
              help="how long to wait for a database that is away; without it, for ever")  # fmt: skip
@json_option
def migrate(restored: bool, wait_seconds: float | None, as_json: bool) -> None:
    """Create or upgrade tables and triggers; safe to run again, and from several hosts at once.

    It waits for a database that is away, and prints a line a minute meanwhile.

    \b
    darkroom migrate
    darkroom migrate --wait 30    # exit status 1 when it is still away after 30 s
    darkroom migrate --restored   # once, after a backup was put back
    """
    from supervisor.database.interface.database import is_postgres
    from supervisor.database.open_database import open_database
    from supervisor.database.outage_wait import until_it_works
    from supervisor.objects.private_files import keep_to_ourselves
    from supervisor.schema.migrate import migrate as run
    from supervisor.store.feed.feed_epochs import renew_epochs

    if wait_seconds is not None and not math.isfinite(wait_seconds):
        raise WrongUsage("--wait is a number of seconds; leave it out to wait for ever.")
    settings = settings_of_command()
    keep_to_ourselves(settings)
    applied = until_it_works(lambda: run(settings), say=_say, wait_seconds=wait_seconds)
    grants: list[str] = []
    if is_postgres(settings.database_url):
        from supervisor.schema.postgres.postgres_upgrade import grants_for_producers

        with contextlib.closing(open_database(settings)) as database:
            grants = database.read(grants_for_producers)
    renewed = None
    if restored:
        with contextlib.closing(open_database(settings)) as database:
            renewed = database.write(renew_epochs).result()
    if as_json:
        print_json({"applied": applied, "grants": grants, "feeds_renewed": renewed})
        return
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("the database is up to date")
    if grants:
        click.echo("a program that makes tasks by plain SQL needs a role with these rights and no others:")
        for grant in grants:
            click.echo(f"  {grant}")
    if restored:
        click.echo(f"the feeds of {renewed} users begin anew")


def _say(sentence: str) -> None:
    click.echo(f"darkroom: {sentence}", err=True)


def _run_module(name: str) -> None:
    from supervisor.processes.lean_imports import import_lean

    settings_of_command()  # every command reports wrong settings in the same way
    import_lean()
    sys.exit(importlib.import_module(name).main())


def _become(argv: tuple[str, ...]) -> None:
    sys.stdout.flush()
    os.execv(argv[0], argv)


COMMANDS = [up, web, dispatcher, worker, scheduler, migrate]
