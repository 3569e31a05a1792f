"""A whole system on services as platforms give them: no superuser, an own schema, TLS, short time-outs, an ACL."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme

from supervisor.broker.broker_client import open_client
from supervisor.core.errors import DatabaseBusy
from supervisor.database.postgres import transactions
from supervisor.database.postgres.postgres_database import PostgresDatabase
from supervisor.net.ports import free_port
from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.broker_server import BrokerServer
from tests.support.servers.pgbouncer import PGBOUNCER, PgBouncer
from tests.support.servers.postgres_server import PostgresServer
from tests.support.servers.postgres_server import server as shared_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

# Of the role, as platforms set them for all their customers' programs.
TIME_OUTS = {
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "lock_timeout": "2s",
}


@pytest.fixture
def authority() -> Iterator[tuple[Path, Path, Path]]:
    """(certificate of a private authority, certificate and key of localhost that the server's user can read)."""
    made = trustme.CA()
    folder = Path(tempfile.mkdtemp(prefix="dk-tls-"))
    root, chain, key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
    made.cert_pem.write_to_path(root)
    issued = made.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, chain, key):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    folder.chmod(0o755)
    yield root, chain, key
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database() -> Iterator[tuple[PostgresServer, str]]:
    """A server of its own, and the address that an app has of it."""
    port = free_port("127.0.0.1")
    server = PostgresServer(listen_addresses="127.0.0.1", port=port)
    try:
        with server.admin() as admin:
            admin.execute("CREATE ROLE app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
            for name, value in TIME_OUTS.items():
                admin.execute(f"ALTER ROLE app SET {name} = '{value}'".encode())
            admin.execute("ALTER ROLE app SET search_path = darkroom")
            admin.execute("CREATE DATABASE managed")
        with contextlib.closing(psycopg.connect(server.url("managed"), autocommit=True)) as owner:
            owner.execute("CREATE SCHEMA darkroom AUTHORIZATION app")
            owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        yield server, f"postgresql://app@127.0.0.1:{port}/managed"
    finally:
        server.close()


@pytest.fixture
def broker() -> Iterator[str]:
    """The address of a user that may touch our keys alone, in a database of its own, of a server that evicts."""
    folder = Path(tempfile.mkdtemp(prefix="dk-"))
    port = free_port("127.0.0.1")
    server = BrokerServer(
        folder, "--port", str(port), "--bind", "127.0.0.1",
        "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
    )  # fmt: skip
    server.start()
    with server.client() as admin:
        admin.execute_command(
            "ACL", "SETUSER", "app", "on", ">app-password", "~dramatiq*", "~darkroom:*", "&*", "+@all", "-@admin",
            "-@dangerous", "+info",
        )  # fmt: skip
    yield f"redis://app:app-password@127.0.0.1:{port}/3"
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def one(server: PostgresServer, sql: str) -> tuple[Any, ...]:
    with contextlib.closing(psycopg.connect(server.url("managed"))) as connection:
        row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return tuple(row)


def completed(server: PostgresServer) -> int:
    return int(one(server, "SELECT count(*) FROM darkroom.task_queue WHERE status = 'completed'")[0])


def doctor(system: RunningSystem) -> str:
    done = system.darkroom("doctor", cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_system_works_on_a_managed_database_and_broker(
    database: tuple[PostgresServer, str], broker: str, tmp_path: Path
) -> None:
    server, url = database
    log = tmp_path / "log"
    settings = INSTANT | {"WORKER_PROCESSES": "1", "LOG_LEVEL": "info"}
    with running_system(log=log, **settings, DATABASE_URL=url, BROKER_URL=broker) as system:
        image = system.upload_sample("o-1")
        for _ in range(4):
            system.order("instant", user="o-1", images=[image])
        eventually("the first tasks are completed", lambda: completed(server) == 4)
        (until,) = one(server, "SELECT clock_timestamp() + interval '3 s'")
        eventually(
            "every time-out of the role has passed",
            lambda: one(server, "SELECT clock_timestamp()")[0] > until,
        )
        for _ in range(4):
            system.order("instant", user="o-1", images=[image])
        eventually("the tasks after the silence are completed", lambda: completed(server) == 8)
        assert "evicts keys" in doctor(system)
        assert one(server, "SELECT count(*) FROM darkroom.credit_entry WHERE kind = 'debit'") == (8,)
    said = log.read_text(errors="replace")
    assert "idle-session timeout" not in said and "terminating connection" not in said
    assert one(server, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == (0,)
    with open_client(broker) as client:
        assert client.connection_pool.connection_kwargs["db"] == 3


@pytest.mark.skipif(PGBOUNCER is None and not os.environ.get("CI"), reason="there is no pgbouncer")
def test_a_certificate_of_a_private_authority_is_checked(
    authority: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of the tests is built without TLS, so a pooler before it speaks it, as on many platforms."""
    monkeypatch.setattr(transactions, "BUSY_SECONDS", 1.0)
    root, chain, key = authority
    port = free_port("127.0.0.1")
    bouncer = PgBouncer(
        shared_server().folder,
        shared_server().port,
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nclient_tls_sslmode = require\n"
        f"client_tls_cert_file = {chain}\nclient_tls_key_file = {key}\n",
    )
    bouncer.start_without_looking()
    address = f"postgresql://darkroom@localhost:{port}/postgres?sslmode=verify-full"
    try:
        eventually("it speaks TLS", lambda: _speaks(f"{address}&sslrootcert={root}"))
        with contextlib.closing(PostgresDatabase(f"{address}&sslrootcert={root}")) as database:
            assert database.glance(lambda tx: tx.value("SELECT 7")) == 7
        with (
            contextlib.closing(PostgresDatabase(f"{address}&sslrootcert={chain}")) as database,
            pytest.raises(DatabaseBusy, match=r"its certificate is not trusted; .*sslrootcert"),
        ):
            database.glance(lambda tx: tx.value("SELECT 7"))
    finally:
        bouncer.close()


def _speaks(address: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(address, connect_timeout=5).close()
        return True
    return False
