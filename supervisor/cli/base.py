"""The common part of all commands: settings, and the ways in which a command ends."""

from __future__ import annotations

import click

from config.settings import Settings, SettingsError, load_settings

FAILED, WRONG_USAGE = 1, 2


class Failed(click.ClickException):
    """The task or check failed; the message is the sentence for the person."""

    exit_code = FAILED


class WrongUsage(click.ClickException):
    """The command's usage or the settings are wrong."""

    exit_code = WRONG_USAGE


def settings_of_command() -> Settings:
    """The settings; ends the command with a sentence if they are wrong.  Raises WrongUsage."""
    try:
        return load_settings()
    except SettingsError as error:
        raise WrongUsage(str(error)) from None
