"""Commands that print keys for SDKs of other services."""

from __future__ import annotations

import click

from supervisor.cli.base import WrongUsage, check_secret_is_of, settings_of_command
from supervisor.cli.shown.output import json_option, print_either


@click.group()
def key() -> None:
    """Keys for SDKs of other services."""


@key.command()
@click.argument("name")
@json_option
def cloudbase(name: str, as_json: bool) -> None:
    """Print a secretId and a secretKey for wx-server-sdk and @cloudbase/node-sdk.

    A program with the key acts as a service: it orders, reads, cancels and removes for any user. Nothing is stored: a
    name has the same key as long as DARKROOM_SECRET is the same. `darkroom token revoke --id SECRETID` revokes it for
    good; another name has another key.

    \b
    darkroom key cloudbase functions
    """
    from supervisor.security.cloudbase_keys import secret_id, secret_key
    from supervisor.security.secret import read_or_make_secret

    settings = settings_of_command()
    check_secret_is_of(settings, "key")
    try:
        of_id = secret_id(name)
    except ValueError as error:
        raise WrongUsage(f"No key can be made for {name!r}: {error}.") from None
    made = secret_key(read_or_make_secret(settings), of_id)
    print_either(as_json, {"secretId": of_id, "secretKey": made}, f"secretId   {of_id}\nsecretKey  {made}")


COMMANDS = [key]
