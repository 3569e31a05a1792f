"""The command line: `darkroom …`.  Exit status 0 done, 1 the task or check failed, 2 wrong usage or settings.

Errors are one sentence on stderr.  Each command imports what it needs when it runs, so `--help` and `token` are quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import click

from config.load_settings import SettingsError, load_settings
from supervisor.cli import (
    admin,
    bulk,
    copy_command,
    kubernetes,
    operate,
    providers,
    run,
    sdk_keys,
    submit,
    system_view,
    upgrade,
    users,
    webhooks,
)
from supervisor.cli.base import FAILED, WRONG_USAGE
from supervisor.processes.garbage_collection import spare_the_imports


class _Commands(click.Group):
    """Commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="darkroom-queue", message="%(prog)s %(version)s")
def commands() -> None:
    """Long AI image jobs: hand in a photo, come back for the print."""


for _module in (
    run,
    upgrade,
    submit,
    operate,
    bulk,
    users,
    system_view,
    webhooks,
    providers,
    admin,
    sdk_keys,
    copy_command,
    kubernetes,
):
    for _command in _module.COMMANDS:
        commands.add_command(_command)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point; never returns."""
    spare_the_imports()
    from supervisor.broker.embedded_broker import NoEmbeddedBroker
    from supervisor.core.errors import Fault, SettingFault, as_sentence

    try:
        commands.main(
            args=list(argv) if argv is not None else None, prog_name="darkroom", standalone_mode=False
        )
    except click.exceptions.Abort:
        _end("stopped", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(WRONG_USAGE)
    except click.UsageError as error:
        hint = f" See `{error.ctx.command_path} --help`." if error.ctx else ""
        _end(error.format_message() + hint, WRONG_USAGE)
    except click.ClickException as error:
        _end(error.format_message(), error.exit_code)
    except (SettingFault, NoEmbeddedBroker) as fault:
        _end(str(fault), WRONG_USAGE)
    except Fault as fault:
        _end(str(fault), FAILED)
    except BrokenPipeError:  # `darkroom tasks | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except _database_error() as error:
        _end(as_sentence(error), FAILED)
    except OSError as error:
        _end(f"{error.filename or 'The system'}: {error.strerror or error}.", FAILED)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    sys.exit(0)


def _database_error() -> type[Exception]:
    """The class of database errors, imported only after an error: an earlier import would come before
    `lean_imports`."""
    from supervisor.database.interface.errors import DatabaseError

    return DatabaseError


def _end(sentence: str, status: int) -> None:
    from supervisor.telemetry.secret_filter import secret_filter

    with contextlib.suppress(SettingsError):
        sentence = secret_filter(load_settings())(sentence)
    print(f"darkroom: {sentence}", file=sys.stderr)
    sys.exit(status)
