"""The common part of all commands: settings, and the ways in which a command ends."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from config.load_settings import SettingsError, load_settings
from config.settings import Settings, is_loopback

if TYPE_CHECKING:
    from supervisor.store.operators.audit import Operator

FAILED, WRONG_USAGE = 1, 2


class Failed(click.ClickException):
    """The task or check failed; the message is the sentence for the person."""

    exit_code = FAILED


class WrongUsage(click.ClickException):
    """The command's usage or the settings are wrong."""

    exit_code = WRONG_USAGE


def operator_of_command() -> Operator:
    """The person at the command line, for the record of operators' actions: the user's name and the host's name."""
    from supervisor.store.operators.audit import Operator

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an id without a name
        user = str(os.getuid())
    return Operator(f"{user}@{socket.gethostname()}", "command")


def settings_of_command() -> Settings:
    """The settings; ends the command with a sentence if they are wrong.  Raises WrongUsage."""
    try:
        return load_settings()
    except SettingsError as error:
        raise WrongUsage(str(error)) from None


def check_secret_is_of(settings: Settings, what: str) -> None:
    """Raises WrongUsage where DARKROOM_URL names another host's service and no secret is here: a new one would be made,
    and the service would refuse all that is made with it.  what: is to be made."""
    from supervisor.security.secret import FILE_NAME

    is_elsewhere = settings.url and not is_loopback(urlsplit(settings.url).hostname or "")
    if is_elsewhere and settings.secret is None and not (settings.data_dir / FILE_NAME).exists():
        raise WrongUsage(
            f"The secret of {settings.url} is not here, and that service refuses a {what} that is made with another: "
            "run this on a host of the system, or set DARKROOM_SECRET to the same."
        )


def check_user(user: str) -> None:
    """Raises WrongUsage for a name that no user can have."""
    from supervisor.security.tokens import is_user_name

    if not is_user_name(user):
        raise WrongUsage(f"{user!r} can't name a user: 1-128 characters without control characters.")
