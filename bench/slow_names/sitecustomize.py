"""Python imports this at its start where this folder is on PYTHONPATH: from then on some names are slow."""

from __future__ import annotations

import socket
import time
from typing import Any

from bench.slow_names import GIVES_UP_AFTER_SECONDS, SLOW_NAMES

_look_up = socket.getaddrinfo


def _slowly(host: Any, *arguments: Any, **options: Any) -> Any:
    if str(host).endswith("." + SLOW_NAMES):
        time.sleep(GIVES_UP_AFTER_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _look_up(host, *arguments, **options)


socket.getaddrinfo = _slowly
