"""Commands for administrators: tokens, credits, and the doctor."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

import click

from supervisor.cli.base import (
    WRONG_USAGE,
    Failed,
    WrongUsage,
    check_secret_is_of,
    check_user,
    operator_of_command,
    settings_of_command,
)
from supervisor.cli.shown.output import json_option, print_either, print_json
from supervisor.core.sentences import counted


@click.command()
def secret() -> None:
    """Print a new secret for DARKROOM_SECRET, and nothing else.

    The command stores and changes nothing. To change the secret, put the old one into DARKROOM_SECRET_BEFORE: its
    signatures stay valid until you remove it.

    \b
    darkroom secret
    """
    from supervisor.security.secret import new_secret

    click.echo(new_secret())


@click.command()
def link() -> None:
    """Print the link that lets a browser on this host in, and nothing else.

    `darkroom up` prints it too. It is valid until the next start.

    \b
    darkroom link
    """
    from supervisor.cli.api_client import ApiError, service_address
    from supervisor.security.start_secret import FILE_NAME, start_link

    settings = settings_of_command()
    if not settings.lets_demo_in:
        raise WrongUsage("This server lets no user in without a token: `darkroom token USER` prints one.")
    try:
        kept = (settings.data_dir / FILE_NAME).read_text(encoding="ascii").strip()
        address = service_address(settings.model_copy(update={"url": ""}))
    except FileNotFoundError:
        raise Failed(f"No Darkroom runs on {settings.data_dir}; start it with `darkroom up`.") from None
    except ApiError as error:
        raise Failed(str(error)) from None
    click.echo(start_link(address, kept))


class _TokenCommands(click.Group):
    """`token USER` makes one, `token revoke …` revokes some; a first argument that is not a command is the user."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = args and (args[0] in self.commands or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if own else ["make", *args])


_ROLE = click.option(
    "--role",
    type=click.Choice(["user", "service", "viewer", "operator", "admin"]),
    default="user",
    show_default=True,
)
_TTL = click.option("--ttl", "ttl_seconds", type=float, default=86400.0, show_default=True, metavar="SECONDS")


@click.group(cls=_TokenCommands, subcommand_metavar="USER | revoke USER | revoke --id JTI")
@_ROLE
@_TTL
@json_option
def token(**_: Any) -> None:  # the options are `make`'s; here they are shown in the help
    """Print a token for a user, and nothing else; or revoke tokens.

    \b
    darkroom token o-7
    curl -H "Authorization: Bearer $(darkroom token o-7 --ttl 3600)" localhost:8000/v1/works
    darkroom token backend --role service --ttl 31536000
    darkroom token revoke o-7
    """


@token.command(hidden=True)
@click.argument("user")
@_ROLE
@_TTL
@json_option
def make(user: str, role: str, ttl_seconds: float, as_json: bool) -> None:
    """Print a token for a user, and nothing else.

    \b
    darkroom token o-7 --ttl 3600
    """
    from supervisor.security.secret import read_or_make_secret
    from supervisor.security.tokens import make_user_token

    if not (math.isfinite(ttl_seconds) and 0 < ttl_seconds <= 10 * 365 * 86400):
        raise WrongUsage(
            f"--ttl is {ttl_seconds:g}, but may be a number of seconds above 0 and up to ten years."
        )
    settings = settings_of_command()
    check_secret_is_of(settings, "token")
    secret = read_or_make_secret(settings)
    try:
        made = make_user_token(secret, user, role, ttl_seconds=ttl_seconds)  # type: ignore[arg-type]
    except ValueError as error:
        raise WrongUsage(f"No token can be made for {user!r}: {error}.") from None
    print_either(as_json, {"token": made, "user": user, "role": role, "expires_in": ttl_seconds}, made)


@token.command()
@click.argument("user", required=False)
@click.option(
    "--id", "token_id", metavar="JTI", help="Take back this one token, by its `jti`, not all of a user's."
)
@json_option
def revoke(user: str | None, token_id: str | None, as_json: bool) -> None:
    """Revoke every token that a user has by now, or one by its id.

    Requests with them are refused from now on, and open streams end within 15 seconds. Tokens that are made later are
    valid. Links to files stay valid until they expire, and AI services may still report.

    \b
    darkroom token revoke o-7
    darkroom token revoke --id 01KB7Q4W1XKQ7Y9V6J3T5M2N8P
    """
    import time

    from supervisor.cli.operate import acts_elsewhere, ask, write_database
    from supervisor.cli.users import path_of_user
    from supervisor.security.tokens import is_user_name
    from supervisor.store.operators import administration

    if (user is None) == (token_id is None):
        raise WrongUsage("Name a user, or one token with --id JTI.")
    name = user if user is not None else str(token_id)
    if not is_user_name(name):
        raise WrongUsage(f"{name!r} names nothing: 1-128 characters without control characters.")
    now, operator = time.time(), operator_of_command()
    revoke_it = administration.revoke_token if user is None else administration.revoke_user
    settings = settings_of_command()
    if not acts_elsewhere(settings):
        write_database(settings, lambda tx: revoke_it(tx, operator, name, now))
    elif user is None:
        raise WrongUsage("One token is revoked on a host of the system, without DARKROOM_TOKEN.")
    else:
        ask(settings, "POST", path_of_user(user, "revoke"))
    what, said = (
        ("id", f"the token {name} is") if user is None else ("user", f"the tokens that {name} had are")
    )
    print_either(as_json, {what: name, "not_before": now}, f"{said} good no more")


@click.group()
def credits() -> None:
    """Credits of users."""


@credits.command()
@click.argument("user")
@click.argument("amount", metavar="N", type=click.IntRange(1, 1_000_000_000))
@click.option("--reference", help="grants with a reference that was used before change nothing")
@json_option
def grant(user: str, amount: int, reference: str | None, as_json: bool) -> None:
    """Give a user credits.

    \b
    darkroom credits grant o-7 100
    darkroom credits grant o-7 100 --reference order-4711   # sent again, it grants nothing more
    """
    from supervisor.cli.operate import acts_elsewhere, ask, write_database
    from supervisor.cli.users import path_of_user
    from supervisor.core.ids import new_ulid
    from supervisor.store.operators import administration

    check_user(user)
    operator, settings = operator_of_command(), settings_of_command()
    if acts_elsewhere(settings):
        body = {"amount": amount, "reference": reference or new_ulid()}
        balance = ask(settings, "POST", path_of_user(user, "grants"), json=body)["balance"]
    else:
        unique = f"command:{reference or new_ulid()}"
        given = write_database(settings, lambda tx: administration.grant(tx, operator, user, amount, unique))
        balance = given.balance
        if not given.is_new:
            raise Failed(
                f"The reference {reference} was granted before; {given.user} has {counted(balance, 'credit')}."
            )
    print_either(
        as_json,
        {"user": user, "granted": amount, "balance": balance},
        f"{user} has {counted(balance, 'credit')}",
    )


@click.command()
@click.option(
    "--provider", metavar="NAME", help="Have one picture made by this AI service, and show each step."
)
@click.option("--image", "images", multiple=True, type=click.Path(exists=True, dir_okay=False, resolve_path=True),
              help="A photo for it; may be repeated.")  # fmt: skip
@click.option("--prompt", help="A prompt for it.")
@click.option("--out", type=click.Path(resolve_path=True), help="Where to save its picture.")
@json_option
def doctor(
    provider: str | None, images: tuple[str, ...], prompt: str | None, out: str | None, as_json: bool
) -> None:
    """Check every configured part; one line each, with what to do.

    With --provider: make one picture, which is a real call at the service's price.

    \b
    darkroom doctor
    darkroom doctor --json | jq '.[] | select(.well | not)'
    darkroom doctor --provider openai --prompt "by the sea" --out try
    """
    if provider is not None:
        _try_provider(provider, images, prompt, out, as_json=as_json)
        return
    from supervisor.cli.doctor.doctor import examine

    findings = examine(settings_of_command())
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    for finding in [] if as_json else findings:
        click.echo(f"{'ok   ' if finding.well else 'WRONG'} {finding.part:10} {finding.sentence}")
    wrong = sum(not finding.well for finding in findings)
    if wrong:
        raise Failed(f"{wrong} of {len(findings)} checks failed.")


def _try_provider(
    name: str, images: tuple[str, ...], prompt: str | None, out: str | None, *, as_json: bool
) -> None:
    from supervisor.cli.doctor.provider_check import try_provider

    options = [part for image in images for part in ("--image", image)]
    options += ["--prompt", prompt] if prompt else []
    options += ["--out", out] if out else []
    options += ["--json"] if as_json else []
    settings = settings_of_command()
    if name not in settings.providers:
        raise WrongUsage(f"There is no provider {name!r}; there are {', '.join(sorted(settings.providers))}.")
    status = try_provider(settings, name, options)
    if status == WRONG_USAGE:
        sys.exit(WRONG_USAGE)  # it has said the sentence itself
    if status:
        raise Failed(f"The provider {name} has made no picture.")


COMMANDS = [link, secret, token, credits, doctor]
