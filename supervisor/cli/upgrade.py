"""`darkroom upgrade`: replace the running program by this one, part by part, while orders and feeds are served."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from supervisor.cli.base import Failed, settings_of_command
from supervisor.database.outage_wait import until_it_works

LOOK_SECONDS = 0.2
TAKEN_SECONDS = 15.0  # within which a running `up` takes the request


@click.command()
def upgrade() -> None:
    """Migrate, then replace the parts of the running `darkroom up` by those of this program, one by one.

    Each new part must be up before the old one is asked to stop. When one does not come up, the old parts go on.

    \b
    pip install '.[studio,heic]' && darkroom upgrade    # in the newer clone
    /opt/darkroom-2/bin/darkroom upgrade    # the new program has a place of its own
    """
    from supervisor.cli.up import renewable
    from supervisor.database.open_database import open_database
    from supervisor.objects.private_files import keep_to_ourselves
    from supervisor.processes.process_states import running_up
    from supervisor.processes.upgrade_request import ask, take_back
    from supervisor.schema.migrate import migrate

    settings = settings_of_command()
    keep_to_ourselves(settings)
    pid = running_up(settings.data_dir)
    if pid is not None and "renewal" not in _state(settings.data_dir):
        raise Failed(
            f"The `darkroom up` that runs (process {pid}) is of a release that can't be upgraded so; stop it and start"
            " the new one."
        )
    for name in until_it_works(
        lambda: migrate(settings), say=lambda why: click.echo(f"darkroom: {why}", err=True)
    ):
        click.echo(f"applied {name}")
    click.echo("the database is up to date")
    if pid is None:
        click.echo(f"no `darkroom up` runs on {settings.data_dir}; restart the parts, one after another")
        return
    wanted = ask(settings.data_dir, renewable(settings, open_database(settings)))
    try:
        for name in _watched(settings.data_dir, wanted):
            click.echo(f"{name} is replaced")
    finally:
        take_back(settings.data_dir)
    click.echo(
        "every part is of this program now; `darkroom up` itself will be when it is started the next time"
    )


def _watched(data_dir: Path, wanted: str) -> Iterator[str]:
    """The names of the parts while they are replaced.  Raises Failed."""
    told: list[str] = []
    began = time.monotonic()
    while True:
        renewal = _state(data_dir).get("renewal", {})
        is_ours = renewal.get("id") == wanted
        if is_ours:
            yield from (name for name in renewal["done"] if name not in told)
            told = renewal["done"]
            if renewal["failed"]:
                raise Failed(
                    f"Not all parts were replaced: {renewal['failed']}. The others go on as they were."
                )
            if not (renewal["name"] or renewal["waiting"]):
                return
        elif time.monotonic() - began > TAKEN_SECONDS:
            raise Failed(
                "The running `darkroom up` takes no notice: it is stopping, frozen, or at another upgrade."
            )
        time.sleep(LOOK_SECONDS)


def _state(data_dir: Path) -> dict[str, Any]:
    from supervisor.processes.process_states import read_state, state_path

    state = read_state(state_path(data_dir))
    if state is None:
        raise Failed("`darkroom up` has ended meanwhile; its log says why.")
    return state


COMMANDS = [upgrade]
