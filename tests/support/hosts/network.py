"""Hosts of a network, as Linux has them: each a network namespace, plugged into a bridge that is in one of its own.

The namespaces have no name outside and live as long as the thread that made them. So they and their contents end with
this process, however it ends. Needs root, and `ip` of iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000  # linux/sched.h
BRIDGE = "switch"

_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace and a host name.  Code that runs `on` it sees only its network, children too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self.thread_id = self.on(self._enter)

    def on(self, act: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call this on the host; processes that it starts stay there, and die at the latest when the host is closed."""
        return self._thread.submit(act, *args, **options).result()

    def ip(self, *words: str) -> None:
        """`ip WORDS` on this host."""
        self.on(subprocess.run, ["ip", *words], check=True, capture_output=True)

    def close(self) -> None:
        self._thread.shutdown()

    def _enter(self) -> int:
        if _libc.unshare(CLONE_NEWNET | CLONE_NEWUTS) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        socket.sethostname(self.name)
        return int(_libc.gettid())


class Network:
    """Hosts that reach only each other, at 10.77.0.1, 10.77.0.2 and so on, in the order of their names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._switch = Host("switch")
        self._switch.ip("link", "add", BRIDGE, "type", "bridge")
        self._switch.ip("link", "set", BRIDGE, "up")
        self.hosts: dict[str, Host] = {}
        for n, name in enumerate(names, 1):
            self._plug_in(name, f"10.77.0.{n}")

    def cut(self, name: str) -> None:
        """Pull the host's plug: from now on nothing reaches it, nor does anything come from it."""
        self._switch.ip("link", "set", f"to-{name}", "down")

    def mend(self, name: str) -> None:
        """Put the plug back."""
        self._switch.ip("link", "set", f"to-{name}", "up")

    def close(self) -> None:
        for host in (*self.hosts.values(), self._switch):
            host.close()

    def _plug_in(self, name: str, address: str) -> None:
        host = self.hosts[name] = Host(name)
        plug = f"to-{name}"
        # fmt: off
        self._switch.ip("link", "add", plug, "type", "veth",
                        "peer", "name", "eth0", "netns", str(host.thread_id))
        # fmt: on
        self._switch.ip("link", "set", plug, "master", BRIDGE, "up")
        host.ip("address", "add", f"{address}/24", "dev", "eth0")
        for each in ("lo", "eth0"):
            host.ip("link", "set", each, "up")


@contextlib.contextmanager
def network(*names: str) -> Iterator[Network]:
    """A network of these hosts.  Skips the test where none can be made, and fails it where CI is set."""
    reason = _why_none_can_be_made()
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with contextlib.closing(Network(names)) as made:
        yield made


def _why_none_can_be_made() -> str:
    if shutil.which("ip") is None:
        return "A network of hosts needs the command `ip`: apt-get install iproute2."
    if os.geteuid() != 0:
        return "A network of hosts needs root, for network namespaces: run `make test-system` as root."
    try:
        with contextlib.closing(Network(("probe",))):
            return ""
    except OSError as error:
        return f"This system lets nobody make a network namespace ({error.strerror}); run it where that is allowed."
    except subprocess.CalledProcessError as error:
        return f"This system makes no bridge or no pair of network devices: {error.stderr.decode().strip()}"
