"""The command that copies one host's SQLite file to PostgreSQL."""

from __future__ import annotations

import click

from supervisor.cli.base import WrongUsage, settings_of_command
from supervisor.cli.shown.output import json_option, print_json


@click.command()
@click.option(
    "--from", "source_url", required=True, metavar="URL", help="sqlite:///path, of a stopped Darkroom"
)
@click.option("--to", "target_url", required=True, metavar="URL", help="postgresql://…, an empty database")
@json_option
def copy(source_url: str, target_url: str, as_json: bool) -> None:
    """Copy a SQLite database into an empty PostgreSQL one: everything in one transaction, or nothing.

    Darkroom must be stopped. Tasks, works, credits, histories and settings of operators go along; open tasks go on
    there. Feeds begin anew. Files are not touched: see docs/scaling.md.

    \b
    darkroom copy --from sqlite:////var/lib/darkroom/darkroom.db --to postgresql://darkroom@database.internal/darkroom
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from supervisor.database.interface.database import is_postgres
    from supervisor.database.sqlite.sqlite_database import sqlite_file
    from supervisor.schema.copy.copy_database import copy_into_postgres
    from supervisor.schema.copy.copy_source import Source
    from supervisor.schema.migrate import known_versions, migrate

    if is_postgres(source_url) or not is_postgres(target_url):
        raise WrongUsage(
            "copy goes from sqlite:///… to postgresql://…; between servers of one kind use their own tools (pg_dump, "
            "a copy of the file)."
        )
    target = settings_of_command().model_copy(update={"database_url": target_url})
    source = Source(sqlite_file(source_url)[0], known_versions())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows  {task.fields[table]}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    try:
        migrate(target)
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("copying", total=None, table="")

            def tell(table: str, done: int, total: int) -> None:
                progress.update(bar, completed=done, total=total, table=table)

            copied = copy_into_postgres(source, target, tell)
    finally:
        source.close()
    if as_json:
        print_json({"rows": copied.rows, "credits": copied.credits, "left_behind": copied.unknown})
        return
    for table, count in copied.rows.items():
        if count:
            click.echo(f"{count:>12,} rows of {table}")
    click.echo(f"{copied.credits:>12,} credits, the same in the ledger and in the accounts on both sides")
    for table in copied.unknown:
        click.echo(f"left behind: {table}, which is no table of Darkroom's")
    click.echo("copied; every feed begins anew. Next: the files, then the new settings (docs/scaling.md).")


COMMANDS = [copy]
