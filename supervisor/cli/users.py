"""Commands about one user: show, block, unblock."""

from __future__ import annotations

from urllib.parse import quote

import click

from supervisor.cli.base import Failed, WrongUsage, check_user, operator_of_command, settings_of_command
from supervisor.cli.shown.output import json_option, print_either


def path_of_user(user: str, *what: str) -> str:
    """The operators' address of a user, or of what may be done to one."""
    return "/".join(("/v1/ops/users", quote(user, safe=""), *what))


@click.command("user")
@click.argument("user")
@json_option
def show_user(user: str, as_json: bool) -> None:
    """Show a user: block, balance, ledger, open tasks, limits and their use, refusals of the last day.

    Only web processes know how many streams and requests a minute are used: /ops shows them, and so does this command
    with DARKROOM_URL.

    \b
    darkroom user o-7
    """
    from supervisor.cli.operate import ask, read_database
    from supervisor.cli.shown.user_lines import user_lines
    from supervisor.store.operators import user_view

    check_user(user)
    settings = settings_of_command()
    if settings.url:
        view = ask(settings, "GET", path_of_user(user))
    else:
        view = read_database(settings, lambda tx: user_view.read(tx, settings, user))
    if view is None:
        raise Failed(f"The user {user} was never seen.")
    print_either(as_json, view, user_lines(view))


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
    from supervisor.cli.operate import acts_elsewhere, ask, write_database
    from supervisor.store.operators import administration

    check_user(user)
    if not (0 < len(reason.strip()) <= 200 and reason.isprintable()):
        raise WrongUsage("--reason must be one line of 1 to 200 characters.")
    operator, settings = operator_of_command(), settings_of_command()
    if acts_elsewhere(settings):
        stands = ask(settings, "POST", path_of_user(user, "block"), json={"reason": reason.strip()})
    else:
        stands = write_database(settings, lambda tx: administration.block(tx, operator, user, reason.strip()))
    print_either(
        as_json, {**stands, "user": user}, f"{user} is blocked since {stands['since']}: {stands['reason']}"
    )


@click.command()
@click.argument("user")
@json_option
def unblock(user: str, as_json: bool) -> None:
    """End a user's block.

    \b
    darkroom unblock o-7
    """
    from supervisor.cli.operate import acts_elsewhere, ask, write_database
    from supervisor.store.operators import administration

    check_user(user)
    operator, settings = operator_of_command(), settings_of_command()
    if acts_elsewhere(settings):
        ask(settings, "DELETE", path_of_user(user, "block"))
    elif not write_database(settings, lambda tx: administration.unblock(tx, operator, user)):
        raise Failed(f"{user} is not blocked.")
    print_either(as_json, {"user": user, "blocked": False}, f"{user} is no longer blocked")


COMMANDS = [show_user, block, unblock]
