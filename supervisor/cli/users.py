"""Commands about one user: block, unblock."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.base import Failed, WrongUsage, operator_of_command, settings_of_command
from supervisor.cli.shown.output import json_option, print_json


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


COMMANDS = [block, unblock]
