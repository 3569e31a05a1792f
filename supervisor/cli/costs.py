"""The command that shows the costs of AI services beside the credits taken for them."""

from __future__ import annotations

import datetime

import click

from config.settings import Settings
from supervisor.cli.base import WrongUsage, settings_of_command
from supervisor.cli.shown.output import json_option, print_json, print_table

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
    from supervisor.cli.operate import with_database
    from supervisor.store.ledger import provider_costs

    moment = _moment(since)
    settings: Settings = settings_of_command()
    spent, taken = with_database(
        settings,
        lambda database: database.read(
            lambda tx: (provider_costs.totals_since(tx, moment), provider_costs.credits_since(tx, moment))
        ),
    )
    if as_json:
        by_type = [{**each._asdict(), "taken": each.debited - each.refunded} for each in taken]
        print_json({"since": moment, "costs": [each._asdict() for each in spent], "credits": by_type})
        return
    print_table(
        ("PROVIDER", "TYPE", "REQUESTS", "COST", "UNIT"),
        ((each.provider, each.type, str(each.requests), each.cost, each.unit) for each in spent),
        right=("REQUESTS", "COST"),
    )
    click.echo("")
    print_table(
        ("TYPE", "DEBITED", "REFUNDED", "CREDITS TAKEN"),
        (
            (
                each.type or "(forgotten)",
                str(each.debited),
                str(each.refunded),
                str(each.debited - each.refunded),
            )
            for each in taken
        ),
        right=("DEBITED", "REFUNDED", "CREDITS TAKEN"),
    )
    if not spent:
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


COMMANDS = [costs]
