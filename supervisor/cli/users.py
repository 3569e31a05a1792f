"""Commands about one user: show, block, unblock."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.base import Failed, WrongUsage, operator_of_command, settings_of_command
from supervisor.cli.shown.output import json_option, print_json


@click.command("user")
@click.argument("user")
@json_option
def show_user(user: str, as_json: bool) -> None:
    """Show a user: block, balance, ledger, open tasks, limits and their use, refusals of the last day.

    Uses of streams and of quotas a minute are known to web processes: /ops shows them, or DARKROOM_URL does here.

    \b
    darkroom user o-7
    """
    from urllib.parse import quote

    from supervisor.cli.operate import ask, with_database
    from supervisor.cli.shown.user_lines import user_lines
    from supervisor.store.operators import user_view

    _check(user)
    settings = settings_of_command()
    if settings.url:
        seen = ask(settings, "GET", f"/v1/ops/users/{quote(user, safe='')}")
    else:
        seen = with_database(
            settings, lambda database: database.read(lambda tx: user_view.read(tx, settings, user))
        )
    if seen is None:
        raise Failed(f"The user {user} was never seen.")
    if as_json:
        print_json(seen)
        return
    for line in user_lines(seen):
        click.echo(line)


@click.command()
@click.argument("user")
@click.option("--reason", required=True, metavar="WORDS", help="Why, for the record; one line.")
@json_option
def block(user: str, reason: str, as_json: bool) -> None:
    """Take nothing more from a user: requests are answered 403, and rows by SQL fail as `user_blocked`.

    Open tasks go on, and the user's feed may still be read. A second block changes the reason.

    \b
    darkroom block o-7 --reason "stolen card"
    """
    from supervisor.cli.operate import with_database
    from supervisor.store.operators import administration

    _check(user)
    if not (0 < len(reason.strip()) <= 200 and reason.isprintable()):
        raise WrongUsage("--reason must be one line of 1 to 200 characters.")
    operator = operator_of_command()

    def step(tx: Any) -> Any:
        return administration.block(tx, operator, user, reason.strip())

    stands = with_database(settings_of_command(), lambda database: database.write_now(step))
    if as_json:
        print_json({"user": user, **stands})
    else:
        click.echo(f"{user} is blocked since {stands['since']}: {stands['reason']}")


@click.command()
@click.argument("user")
@json_option
def unblock(user: str, as_json: bool) -> None:
    """End a user's block.

    \b
    darkroom unblock o-7
    """
    from supervisor.cli.operate import with_database
    from supervisor.store.operators import administration

    _check(user)
    operator = operator_of_command()
    ended = with_database(
        settings_of_command(),
        lambda database: database.write_now(lambda tx: administration.unblock(tx, operator, user)),
    )
    if not ended:
        raise Failed(f"{user} is not blocked.")
    if as_json:
        print_json({"user": user, "blocked": False})
    else:
        click.echo(f"{user} is no longer blocked")


def _check(user: str) -> None:
    from supervisor.security.tokens import is_user_name

    if not is_user_name(user):
        raise WrongUsage(f"{user!r} can't name a user: 1-128 characters without control characters.")


COMMANDS = [show_user, block, unblock]
