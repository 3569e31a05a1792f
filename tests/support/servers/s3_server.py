"""A real S3 server in its own process (moto's): a test can freeze it, stop it and list its objects."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

from config.storage import S3

ACCESS_KEY, SECRET_KEY = "AKIADARKROOMTESTS", "a secret key of the tests"


class S3Server:
    """One server process; `address` is its endpoint.  port: 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.servers.s3_server", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address.startswith("http://"), "the S3 server has not started"
        self.port = int(self.address.rpartition(":")[2])

    def options(self, **changed: Any) -> S3:
        """Settings with which a client reaches this server."""
        given = {
            "endpoint_url": self.address,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": "us-east-1",
        }
        return S3(**{**given, **changed})

    def client(self) -> Any:
        """A plain client, which knows nothing of ours."""
        import botocore.session

        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )

    def make_bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """Every object's name."""
        return [each["Key"] for each in self.client().list_objects_v2(Bucket=bucket).get("Contents", ())]

    @contextlib.contextmanager
    def refusing_strangers(self) -> Iterator[None]:
        """While this lasts, only credentials issued by the server are accepted, and it has issued none."""
        self._moto("reset-auth", b"0")
        try:
            yield
        finally:
            self._moto("reset-auth", b"Infinity")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While this lasts, the kernel accepts connections and the server does not answer."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _moto(self, call: str, body: bytes) -> None:
        request = urllib.request.Request(
            f"{self.address}/moto-api/{call}", body, {"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


def main() -> None:
    """Serve until killed; the address is the only line on stdout."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
