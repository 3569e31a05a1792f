"""Commands for outgoing webhooks: list deliveries, send one again, and print the key for receivers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from config.settings import Settings
from supervisor.cli.base import Failed, check_secret_is_of, operator_of_command, settings_of_command
from supervisor.cli.operate import MOST_BY_HTTP, acts_elsewhere, ask, read_database, write_database
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
    from supervisor.store.webhooks.webhook_attempts import without_query

    found = _page(settings_of_command(), failed, limit)
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


def _page(settings: Settings, failed: bool, limit: int) -> list[dict[str, Any]]:
    """The newest, of the service of DARKROOM_URL or of the database here."""
    from supervisor.store.webhooks import deliveries as outbox

    if settings.url:
        query = {"failed": str(failed).lower(), "limit": str(min(limit, MOST_BY_HTTP))}
        return list(ask(settings, "GET", "/v1/ops/webhooks", params=query)["items"])
    return list(read_database(settings, lambda tx: outbox.page(tx, failed=failed, limit=limit)))


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@json_option
def resend(webhook_id: str, as_json: bool) -> None:
    """Send one again, from the beginning of its schedule; an address that answered 410 is used again.

    The receiver gets the same `webhook-id`, so that it can ignore a repeated message.
    """
    from supervisor.core.errors import WebhookNotFound
    from supervisor.store.operators import operator_actions

    operator, settings = operator_of_command(), settings_of_command()
    try:
        if acts_elsewhere(settings):
            ask(settings, "POST", f"/v1/ops/webhooks/{quote(webhook_id, safe='')}/resend")
        else:
            write_database(settings, lambda tx: operator_actions.resend(tx, operator, webhook_id))
    except WebhookNotFound:
        raise Failed(f"There is no webhook {webhook_id}; `darkroom webhooks` lists them.") from None
    print_either(as_json, {"id": webhook_id, "state": "waiting"}, f"{webhook_id} is waiting")


@webhooks.command()
def secret() -> None:
    """Print the key for receivers' verification, and nothing else; several while one is being replaced."""
    from supervisor.webhooks.signing_keys import webhook_keys

    settings = settings_of_command()
    if settings.webhooks.secret is None:
        check_secret_is_of(settings, "key")
    for key in webhook_keys(settings):
        click.echo(key)


COMMANDS = [webhooks]
