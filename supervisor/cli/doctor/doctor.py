"""The checks of `darkroom doctor`: one sentence for each configured part, with what to do if it is not well."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from config.secret_strength import weakness
from config.settings import Settings, hide_password
from supervisor.broker.broker_address import broker_address, socket_path
from supervisor.broker.broker_mode import refuse_unusable_mode
from supervisor.broker.broker_ping import try_commands
from supervisor.broker.embedded_broker import NoEmbeddedBroker, broker_answers, server_path
from supervisor.cli.doctor.doctor_liveness import examine_movement, examine_troubles
from supervisor.cli.doctor.provider_check import check_providers
from supervisor.core.errors import Fault, SettingFault, as_sentence
from supervisor.database.interface.database import is_postgres
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.open_database import open_database
from supervisor.database.sqlite.sqlite_database import sqlite_file
from supervisor.net.ports import answers_readyz, port_trouble
from supervisor.objects.disk_space import room_trouble
from supervisor.objects.open_store import open_file_store
from supervisor.processes.process_states import (
    STOPPED,
    read_state,
    running_up,
    state_of,
    state_path,
    to_be_started,
)
from supervisor.schema.migrate import check_version
from supervisor.security.secret import FILE_NAME as SECRET_FILE
from supervisor.telemetry.tracing import collector

FROZEN = "One that is frozen hears no `kill`; `kill -9` ends it, and its supervisor starts another."


@dataclass(frozen=True)
class Finding:
    part: str
    well: bool
    sentence: str


def examine(settings: Settings) -> list[Finding]:
    """A finding for each part.  Changes nothing."""
    checks: list[tuple[str, Callable[[Settings], Iterator[Finding]]]] = [
        ("settings", _settings),
        ("providers", _providers),
        ("database", _database),
        ("disk", _disk),
        ("broker", _broker),
        ("storage", _storage),
        ("web", _web),
        ("processes", _processes),
        ("tracing", _tracing),
    ]
    findings: list[Finding] = []
    for part, check in checks:
        try:
            findings.extend(check(settings))
        except (Fault, OSError, NoEmbeddedBroker) as error:
            findings.append(Finding(part, False, str(error)))
        except DatabaseError as error:
            findings.append(Finding(part, False, as_sentence(error)))
    return findings


def _settings(settings: Settings) -> Iterator[Finding]:
    if settings.secret is None:
        secret = settings.data_dir / SECRET_FILE
        if secret.exists() and (trouble := weakness(secret.read_text(encoding="utf-8", errors="replace"))):
            yield Finding(
                "settings", False, f"The secret in {secret} {trouble}; delete the file, or restore it."
            )
            return
    yield Finding("settings", True, f"{len(settings.tasks)} task types, data in {settings.data_dir}")


def _providers(settings: Settings) -> Iterator[Finding]:
    check_providers(settings)
    used = sorted(settings.providers_in_use)
    yield Finding("providers", True, ", ".join(f"{name} ({settings.providers[name].kind})" for name in used))


def _database(settings: Settings) -> Iterator[Finding]:
    database = open_database(settings)  # connects to nothing yet
    try:
        trouble = _database_trouble(settings)
        if trouble:
            yield Finding("database", False, trouble)
            return
        check_version(database, settings)
        yield Finding("database", True, hide_password(settings.database_url))
        if is_postgres(settings.database_url):
            from supervisor.cli.doctor.doctor_postgres import (
                examine_server,  # its client need not be installed
            )

            for part, well, sentence in examine_server(database, settings):
                yield Finding(part, well, sentence)
        for part, well, sentence in examine_movement(database, settings):
            yield Finding(part, well, sentence)
        for part, well, sentence in examine_troubles(database, settings):
            yield Finding(part, well, sentence)
    finally:
        database.close()


def _database_trouble(settings: Settings) -> str | None:
    """Problems that prevent any query."""
    if is_postgres(settings.database_url):
        from supervisor.cli.doctor.doctor_postgres import (
            connection_sentence,  # its client need not be installed
        )

        return connection_sentence(settings)
    path, _ = sqlite_file(settings.database_url)
    return (
        None
        if path.exists()
        else f"There is no database at {path} yet; run `darkroom migrate` or `darkroom up`."
    )


def _disk(settings: Settings) -> Iterator[Finding]:
    folders = {settings.data_dir}
    if not is_postgres(settings.database_url):
        folders.add(sqlite_file(settings.database_url)[0].parent)
    for folder in sorted(folders):
        trouble = room_trouble(folder)
        yield Finding("disk", trouble is None, trouble or f"there is room in {folder}")


def _broker(settings: Settings) -> Iterator[Finding]:
    where = hide_password(broker_address(settings))
    if not settings.broker_url:
        server_path()
        if broker_answers(socket_path(settings.data_dir)):
            yield Finding("broker", True, f"embedded, {where}")
        else:
            yield Finding(
                "broker",
                False,
                f"The embedded broker does not answer at {where}; {to_be_started(settings.data_dir)}.",
            )
        return
    import redis

    from supervisor.broker.broker_errors import in_words

    try:
        refuse_unusable_mode(settings)
        with redis.Redis.from_url(settings.broker_url, socket_timeout=3, socket_connect_timeout=3) as client:
            try_commands(client)
            yield Finding("broker", True, where + _eviction(client))
    except SettingFault as fault:
        yield Finding("broker", False, str(fault))
    except (redis.RedisError, OSError, ValueError) as error:
        yield Finding("broker", False, f"The broker {where} can't be used: {in_words(error)}.")


def _eviction(client: Any) -> str:
    """What follows from the server's policy; empty if it keeps what it is given, or does not tell."""
    import redis

    try:
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except redis.RedisError:  # its user may not ask
        return ""
    if policy == "noeviction":
        return ""
    return (
        f"; it evicts keys (maxmemory-policy {policy}) when its memory is full: workers then find their claims in the"
        " database, up to two heartbeats later; noeviction is better"
    )


def _storage(settings: Settings) -> Iterator[Finding]:
    yield Finding("storage", True, open_file_store(settings).examine())


def _web(settings: Settings) -> Iterator[Finding]:
    try:
        where = settings.url or (settings.data_dir / "url").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        trouble = port_trouble(settings.host, settings.port) if settings.port else None
        if trouble:
            yield Finding("web", False, f"DARKROOM_PORT is {settings.port}, but {trouble}; set another.")
            return
        yield Finding(
            "web",
            False,
            f"No web runs on {settings.data_dir}; {to_be_started(settings.data_dir, 'darkroom web')}.",
        )
        return
    parts = urlsplit(where)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme == "http" and not answers_readyz(parts.hostname or "127.0.0.1", port):
        yield Finding("web", False, f"{where}/readyz does not answer 200; its log says why. {FROZEN}")
    else:
        yield Finding("web", True, where)


def _tracing(_: Settings) -> Iterator[Finding]:
    where = collector(os.environ)
    if where:
        yield Finding("tracing", True, f"traces go to {hide_password(where)}")


def _processes(settings: Settings) -> Iterator[Finding]:
    state = read_state(state_path(settings.data_dir))
    if state is None:
        return
    if running_up(settings.data_dir) is None:
        yield Finding("processes", False, "`darkroom up` does not run here any more; start it again.")
        return
    for process in state["processes"]:
        restarts = f", {process['restarts']} restarts" if process["restarts"] else ""
        last = f", last end: {process['last_exit']['text']}" if process["last_exit"] else ""
        sentence = f"{process['state']}, process {process['pid']}{restarts}{last}"
        stopped = process["pid"] and state_of(process["pid"]) == STOPPED
        if stopped:
            sentence += f"; a signal has stopped it, and it hears no other but `kill -9 {process['pid']}`"
        yield Finding(process["name"], process["state"] == "ready" and not stopped, sentence)
