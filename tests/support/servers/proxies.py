"""nginx and Caddy with the configurations of deploy/, as children of the test on ports of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.houses.web_server import until
from tests.support.repository import ROOT

NGINX, CADDY = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin"), shutil.which("caddy")


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with each key replaced; fails where one is not there."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the configuration"
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy before the port `upstream`, as deploy/ has it or with an nginx `site` of one's own.

    It may be stopped and started again at the same address.
    """

    def __init__(self, kind: str, folder: Path, upstream: int, site: str = "") -> None:
        self._folder, self._site = folder, site
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._command = {"nginx": self._nginx, "caddy": self._caddy}[kind](upstream)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Accepts connections when this returns."""
        await asyncio.to_thread(self._spawn)
        await until(self._accepts, "the proxy accepts connections")

    async def stop(self) -> None:
        """At once, as a restart of the service does after its patience has ended."""
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, 15)
            self._process = None

    def _spawn(self) -> None:
        environ = {**os.environ, "XDG_DATA_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        with (self._folder / "proxy.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environ, stdout=log, stderr=log)

    def _accepts(self) -> bool:
        assert self._process is not None
        log = self._folder / "proxy.log"
        assert self._process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _nginx(self, upstream: int) -> list[str]:
        changes = {
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            "listen 80;": f"listen 127.0.0.1:{self._port};",
            "listen [::]:80;": "",
            "/var/log/nginx/darkroom.log": str(self._folder / "access.log"),
        }
        site = self._folder / "darkroom.conf"
        if self._site:
            changes = {"127.0.0.1:8000": f"127.0.0.1:{upstream}", "127.0.0.1:80;": f"127.0.0.1:{self._port};"}
        text = self._site or (ROOT / "deploy" / "nginx" / "darkroom.conf").read_text()
        site.write_text(replaced(text, changes))
        user = "user root;" if os.getuid() == 0 else ""  # the test's folder is closed to others
        temporary = "".join(
            f"{name}_temp_path {self._folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = self._folder / "nginx.conf"
        main.write_text(
            f"{user} daemon off; worker_processes 1; pid {self._folder}/nginx.pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ gzip on; gzip_types *; {temporary} include {site}; }}\n"
        )
        return [str(NGINX), "-c", str(main), "-p", str(self._folder), "-e", "stderr"]

    def _caddy(self, upstream: int) -> list[str]:
        changes = {
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            "darkroom.example.com {": f":{self._port} {{",
            "grace_period 5s": "grace_period 500ms\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1",
        }
        text = replaced((ROOT / "deploy" / "caddy" / "Caddyfile").read_text(), changes)
        config = self._folder / "Caddyfile"
        config.write_text(text)
        return [str(CADDY), "run", "--config", str(config), "--adapter", "caddyfile"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
