"""The secret that lets in a browser on this host: made at each start, in the link that `up` prints.

A program on this host needs no token (web/http/demo_access.py).  But a browser sends requests for any page that it
shows, and a proxy without headers passes on any client.  So a browser must follow this link once; it sets a cookie.
The secret gives the same rights as running `curl` on this host, and is valid until the next start.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from supervisor.objects.private_files import write_privately

FILE_NAME = "start-secret"
VARIABLE = "WEB_START_SECRET"  # not DARKROOM_…, because it is not a setting
PATH = "/start"


def make_start_secret(data_dir: Path) -> str:
    """A new secret, stored beside the address for `darkroom link`."""
    secret = secrets.token_urlsafe(24)
    write_privately(data_dir / FILE_NAME, secret + "\n")
    return secret


def start_secret_of(data_dir: Path) -> str:
    """The secret from `up` for its web part, or a new one for a web part that runs alone."""
    return os.environ.pop(VARIABLE, "") or make_start_secret(data_dir)


def start_link(address: str, secret: str) -> str:
    """The link that lets a browser in.  address: `http://HOST:PORT`."""
    return f"{address}{PATH}?key={secret}"
