"""Whether the configured AI services can be used, checked by a command of `actors`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from config.load_settings import environment_of
from config.settings import Settings
from supervisor.core.errors import SettingFault

# this takes a second; a busy host may need much longer, and refusing to start would not help it
SECONDS = 120.0


def check_providers(settings: Settings) -> None:
    """Raises SettingFault with a sentence that names the wrong setting.  Calls no service."""
    used = {settings.providers[name].kind for name in settings.providers_in_use}
    if used <= {"studio"}:
        return  # the studio has no settings, and a start must not wait for another interpreter
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "actors.entry.check_settings"],
            env=environment_of(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SettingFault(f"The AI services' settings could not be checked within {SECONDS:g} s.") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SettingFault(
            said[-1] if said else f"The check of the AI services ended with {done.returncode}."
        )


def try_provider(settings: Settings, name: str, options: Sequence[str]) -> int:
    """Make one real picture; each step is a line on stdout.

    The exit status is that of `actors.entry.try_provider`."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "actors.entry.try_provider", name, *options],
        env=environment_of(settings),
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode
