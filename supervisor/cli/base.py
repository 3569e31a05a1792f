"""What every command has: its settings, and the ways in which it ends."""

from __future__ import annotations

import click

from config.settings import Settings, SettingsError, load_settings

FAILED, WRONG_USAGE = 1, 2


class Failed(click.ClickException):
    """The task or check failed; the message is the sentence for the person."""

    exit_code = FAILED


class WrongUsage(click.ClickException):
    """The command or the settings can't be meant so."""

    exit_code = WRONG_USAGE


def settings_of_command() -> Settings:
    """The settings, or the end of the command with their sentence.  Raises WrongUsage."""
    try:
        return load_settings()
    except SettingsError as error:
        raise WrongUsage(str(error)) from None
