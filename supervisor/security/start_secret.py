"""What a browser on this very host proves itself with: a secret made at each start, in the link that `up` prints.

A program on this host may ask without a token (web/http/demo_access.py).  A browser asks for whatever page it shows,
and a proxy that says nothing of itself passes on whoever comes, so a browser must have followed this link once: it sets
a cookie.  The secret is worth what the right to run `curl` on this host is worth, and ends with the next start.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from supervisor.objects.private_files import write_privately

FILE_NAME = "start-secret"
VARIABLE = "WEB_START_SECRET"  # not DARKROOM_…: it is no setting
PATH = "/start"


def make_start_secret(data_dir: Path) -> str:
    """A new secret, kept beside the address for `darkroom link`."""
    secret = secrets.token_urlsafe(24)
    write_privately(data_dir / FILE_NAME, secret + "\n")
    return secret


def start_secret_of(data_dir: Path) -> str:
    """That which `up` has made for its web part, or one of its own for a web part that runs alone."""
    return os.environ.pop(VARIABLE, "") or make_start_secret(data_dir)


def start_link(address: str, secret: str) -> str:
    """The link that lets a browser in.  address: `http://HOST:PORT`."""
    return f"{address}{PATH}?key={secret}"
