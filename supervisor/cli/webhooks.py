"""Commands for outgoing webhooks: list deliveries, send one again, and print the key for receivers."""

from __future__ import annotations

import click

from supervisor.cli.base import Failed, operator_of_command, settings_of_command
from supervisor.cli.operate import read_database, write_database
from supervisor.cli.shown.output import json_option, print_either, print_json, print_table


@click.group(invoke_without_command=True)
@click.option("--failed", is_flag=True, help="Only those that were given up.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@click.pass_context
def webhooks(ctx: click.Context, failed: bool, limit: int, as_json: bool) -> None:
    """List webhook deliveries, newest first.

    \b
    darkroom webhooks --failed
    darkroom webhooks resend msg_01K…_1
    darkroom webhooks secret
    """
    if ctx.invoked_subcommand is not None:
        return
    from supervisor.store.webhooks import deliveries as outbox
    from supervisor.store.webhooks.webhook_attempts import without_query

    found = read_database(settings_of_command(), lambda tx: outbox.page(tx, failed=failed, limit=limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("WEBHOOK", "TYPE", "STATE", "ATTEMPTS", "STATUS", "MADE", "ADDRESS", "LAST ERROR"),
        (
            (
                each["id"],
                each["type"],
                each["state"],
                str(each["attempts"]),
                str(each["last_status"] or ""),
                each["created_at"],
                without_query(each["url"]),
                each["last_error"] or "",
            )
            for each in found
        ),
        right=("ATTEMPTS", "STATUS"),
    )
    if not found:
        click.echo("no webhooks", err=True)


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@json_option
def resend(webhook_id: str, as_json: bool) -> None:
    """Send one again, from the beginning of its schedule; an address that answered 410 is used again.

    The receiver gets the same `webhook-id`, so that it can ignore a repeated message.
    """
    from supervisor.core.errors import WebhookNotFound
    from supervisor.store.operators import operator_actions

    operator = operator_of_command()
    try:
        write_database(settings_of_command(), lambda tx: operator_actions.resend(tx, operator, webhook_id))
    except WebhookNotFound:
        raise Failed(f"There is no webhook {webhook_id}; `darkroom webhooks` lists them.") from None
    print_either(as_json, {"id": webhook_id, "state": "waiting"}, f"{webhook_id} is waiting")


@webhooks.command()
def secret() -> None:
    """Print the key for receivers' verification, and nothing else; several while one is being replaced."""
    from supervisor.webhooks.signing_keys import webhook_keys

    for key in webhook_keys(settings_of_command()):
        click.echo(key)


COMMANDS = [webhooks]
