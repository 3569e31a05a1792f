"""The disk of a database server is full: orders are refused, parts keep beating, and operators see it."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from metrics.database_collector import read_snapshot
from supervisor.cli.doctor.doctor import examine
from tests.support.hosts.small_disk import SmallDisk, may_mount, small_disk
from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web
from tests.support.servers.postgres_server import server

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not may_mount() and "CI" not in os.environ, reason="only root may mount a disk"),
]
DISK_MEBIBYTES = 64
ENDLESS = {"open_tasks_per_user": 0, "orders_per_minute": 0}
MOST_ORDERS = 300  # before there is no more room in pages that are there already


@contextlib.contextmanager
def database_on_a_small_disk() -> Iterator[tuple[str, SmallDisk]]:
    """The address of an empty database with its tables on one small disk and the server's log on another."""
    with tempfile.TemporaryDirectory(prefix="dk-full-") as above:
        os.chmod(above, 0o755)  # the server runs as nobody
        with small_disk(Path(above) / "disk", DISK_MEBIBYTES) as disk:
            tables = disk.folder / "tables"
            tables.mkdir()
            nobody = pwd.getpwnam("nobody")
            os.chown(tables, nobody.pw_uid, nobody.pw_gid)
            with server().admin() as admin:
                admin.execute(f"CREATE TABLESPACE small_disk LOCATION '{tables}'".encode())
                admin.execute("CREATE DATABASE on_small_disk TABLESPACE small_disk")
            try:
                yield server().url("on_small_disk"), disk
            finally:
                server().drop_database("on_small_disk")
                with server().admin() as admin:
                    admin.execute("DROP TABLESPACE small_disk")


async def troubles(http: aiohttp.ClientSession, web: Web) -> list[str]:
    async with http.get(f"{web.url}/v1/ops/overview", headers=bearer("o-oncall", "operator")) as answer:
        return [each["code"] for each in (await answer.json())["troubles"]]


async def order(http: aiohttp.ClientSession, web: Web, image: str) -> tuple[int, str]:
    """The status, and the error where it is no 202."""
    body = {"type": "photography", "params": {"images": [image]}}
    async with http.post(f"{web.url}/v1/tasks", json=body, headers=bearer("o-1")) as answer:
        return answer.status, (await answer.json()).get("detail", "")


async def test_a_full_disk_of_the_database_server_is_the_only_trouble_shown(
    tmp_path: Path, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="darkroom.access")
    with database_on_a_small_disk() as (url, disk):
        async with running_web(tmp_path, database_url=url, limits=ENDLESS, credits={"enabled": False}) as web:
            headers = bearer("o-1") | {"Content-Type": "image/png"}
            async with http.post(
                f"{web.url}/v1/images", data=picture_bytes("PNG"), headers=headers
            ) as answer:
                image = (await answer.json())["id"]
            assert (await order(http, web, image))[0] == 202
            assert "database_full" not in await troubles(http, web)

            disk.fill()
            for _ in range(MOST_ORDERS):
                status, said = await order(http, web, image)
                if status != 202:
                    break
            assert (status, said[:43]) == (503, "The disk that holds the database is full; n")
            assert "database_full" in await troubles(http, web)
            (finding,) = [each for each in examine(web.settings) if each.part == "database_full"]
            assert not finding.well and "disk of the database's server is full" in finding.sentence
            assert read_snapshot(web.database, web.settings).is_full
            reasons = [record.__dict__.get("reason") for record in caplog.records]
            assert said in reasons, "the log says why it was a 503"

            disk.make_room()
            assert (await order(http, web, image))[0] == 202
            assert "database_full" not in await troubles(http, web)
            assert not read_snapshot(web.database, web.settings).is_full
