"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click

from supervisor.core.json_text import json_bytes

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead, for programs.")


def print_json(value: Any) -> None:
    """One document, indented; times, numbers and nulls as they are."""
    click.echo(json_bytes(value, indented=True).decode())


def print_either(as_json: bool, value: Any, lines: str | Iterable[str]) -> None:
    """The value for programs, or the lines for people."""
    if as_json:
        print_json(value)
        return
    for line in [lines] if isinstance(lines, str) else lines:
        click.echo(line)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()) -> None:
    """One line for each row.  right: titles of columns that hold numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True, justify="right" if title in right else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # text from users is not markup
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)  # a pipe gets whole lines, without a terminal's width
    console.print(table)
