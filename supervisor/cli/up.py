"""`darkroom up`: everything on one host under one supervisor.

Start order: broker, then workers, dispatcher, web and scheduler in parallel, since they wait only for the broker.  The
stop order is the reverse, one rank after the other: no new sweep, no new requests and a `bye` to every feed, no new
claims; then the workers finish their tasks; the broker ends last.

Children run in the data folder, not in the caller's: dramatiq and periodiq put the current folder first on the module
path, and a folder `web/` or `config/` there must not hide our packages.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import structlog

from config.load_settings import environment_of
from config.settings import Settings
from supervisor.broker.broker_address import socket_path
from supervisor.broker.broker_mode import refuse_unusable_mode
from supervisor.broker.embedded_broker import broker_answers, broker_argv, clear_the_way, hurry, log_path
from supervisor.cli.doctor.provider_check import check_providers
from supervisor.core.errors import SettingFault
from supervisor.core.placement import in_words
from supervisor.database.interface.database import Database, Transaction, is_postgres
from supervisor.database.open_database import open_database
from supervisor.database.outage_wait import until_it_works
from supervisor.net.listen_socket import VARIABLE as LISTEN
from supervisor.net.listen_socket import listen_on
from supervisor.net.ports import address, answers_readyz, free_port, local_host, port_trouble
from supervisor.objects.private_files import keep_to_ourselves, write_privately
from supervisor.processes.forked_parts import ForkServer
from supervisor.processes.heartbeat_pipe import FILE_VARIABLE, SYSTEMD
from supervisor.processes.launcher import PROGRAMS
from supervisor.processes.process_states import lives, state_path
from supervisor.processes.process_supervisor import FORK_SERVER, ProcessSupervisor, Program, Ready, Spawned
from supervisor.processes.restart_plan import ChildSpec
from supervisor.processes.supervised import DISPATCHER_SPAWN_ID, WORKER_SPAWN_ID
from supervisor.processes.supervised import VARIABLE as SUPERVISED
from supervisor.processes.upgrade_request import take, take_back
from supervisor.schema.migrate import migrate
from supervisor.security.secret import read_or_make_secret
from supervisor.security.start_secret import FILE_NAME as START_SECRET_FILE
from supervisor.security.start_secret import VARIABLE as START_SECRET_VARIABLE
from supervisor.security.start_secret import make_start_secret, start_link
from supervisor.store.queue import leader, workers
from supervisor.telemetry.logs import configure_logs
from supervisor.telemetry.tracing import collector

CONTROL_THREADS = 2  # besides the task slots, for `submit` and `sweep`
STOP_SECONDS = 10.0  # for parts without work to finish

# What the parts import, and the pages that web compresses.  A fork server does it once for all of them
# (`supervisor.processes.fork_server`).
SHARED = (
    "web.__main__", "web.app.pages:static_files", "actors", "actors.dispatcher.dispatcher",
    "actors.entry.task_actors", "actors.entry.claim_handlers", "actors.registry.adapters", "actors.worker.worker",
    "supervisor.cli.main", "supervisor.processes.launcher", "dramatiq.__main__", "multiprocessing.connection",
    "multiprocessing.popen_fork", "multiprocessing.sharedctypes", "multiprocessing.synchronize", "periodiq",
)  # fmt: skip
SHARED_ON_POSTGRES = tuple(
    f"supervisor.database.postgres.postgres_{name}"
    for name in ("database", "leader_lock", "life_lock", "wakeups")
)
SHARED_ON_SQLITE = ("supervisor.database.sqlite.sqlite_leader_lock", "asyncinotify")

BROKER, WORKERS, DISPATCHER, WEB, SCHEDULER = range(5)  # ranks

log = structlog.get_logger("supervisor")


def run_up(settings: Settings) -> int:
    """Serve until a signal to stop; the exit status.  Raises SettingFault, DatabaseBusy, NoEmbeddedBroker, OSError.

    It waits for a database that is away.  It leaves the database open, because closing could wait for a hanging one.
    End the program with `os._exit`.
    """
    configure_logs(settings, "supervisor")
    check_providers(settings)
    refuse_unusable_mode(settings)
    collector(os.environ)
    keep_to_ourselves(settings)
    with only_one(settings.data_dir):
        read_or_make_secret(settings)  # once, before several parts need it
        if settings.port == 0:
            settings = settings.model_copy(update={"port": free_port(settings.host)})
        elif trouble := port_trouble(settings.host, settings.port):
            raise SettingFault(
                f"DARKROOM_PORT is {settings.port}, but {trouble}; set another, or 0 for a free one."
            )
        forks = None
        if sys.platform == "linux":
            forks = ForkServer(fork_server_argv(settings), _environ_of_parts(settings), settings.data_dir)
        until_it_works(lambda: migrate(settings), say=lambda why: log.warning("not_migrated_yet", reason=why))
        if not settings.broker_url:
            clear_the_way(settings.data_dir)
        url_file = settings.data_dir / "url"
        url_file.unlink(missing_ok=True)
        start_secret = make_start_secret(settings.data_dir) if settings.lets_demo_in else ""
        database = open_database(settings)
        _mark_the_dead_of_last_time(database)
        take_back(settings.data_dir)  # a request to an earlier `up`
        listening = listen_on(settings.host, settings.port)

        def begin_stop() -> None:
            listening.close()  # after web has stopped, clients are refused and do not wait
            if not settings.broker_url:
                hurry(settings.data_dir)

        if forks is not None:
            forks.is_settled(wait=True)  # it has imported while we migrated
        try:
            return ProcessSupervisor(
                programs(settings, database, start_secret, listening.fileno(), forks),
                state_path(settings.data_dir),
                on_all_ready=lambda: _say_ready(settings, url_file, start_secret),
                on_stopping=begin_stop,
                asked_to_renew=lambda: take(settings.data_dir),
            ).run()
        finally:
            url_file.unlink(missing_ok=True)
            (settings.data_dir / START_SECRET_FILE).unlink(missing_ok=True)


def programs(
    settings: Settings,
    database: Database,
    start_secret: str = "",
    listening: int | None = None,
    forks: ForkServer | None = None,
) -> list[Program]:
    """The programs of `up`, in start order.

    start_secret: for the web part, which sets its cookie.  listening: the descriptor of web's socket.  forks: for all
    but the broker.
    """
    environ = _environ_of_parts(settings)
    folder = settings.data_dir

    children: list[Program] = []
    if not settings.broker_url:
        broker = ChildSpec("broker", BROKER, grace_seconds=STOP_SECONDS, reasons=f"{log_path(folder)} says")
        path = socket_path(folder)
        children.append(
            Program(
                broker,
                broker_argv(folder),
                environ,
                folder,
                ready=lambda _: Ready() if broker_answers(path) else None,
                answers=lambda: broker_answers(path),
            )
        )
    for number in range(1, settings.worker_processes + 1):
        theirs = environ if number == 1 else environ | _offering_nothing(settings)
        children.append(_worker_program(settings, database, f"worker-{number}", theirs))
    if settings.worker_offers:
        log.info("offers_given", process="worker-1", offers=in_words(settings.worker_offers))
    darkroom = script("darkroom")
    children.append(_dispatcher_program(settings, database, (darkroom, "dispatcher"), environ))
    children.append(
        Program(
            ChildSpec("web", WEB, awaited=False, grace_seconds=STOP_SECONDS),
            (darkroom, "web"),
            environ | {START_SECRET_VARIABLE: start_secret} | ({LISTEN: str(listening)} if listening else {}),
            folder,
            ready=lambda _: Ready() if answers_readyz(settings.host, settings.port) else None,
            beats=True,
            descriptors=(listening,) if listening else (),
        )
    )
    # Any failure of the broker ends periodiq, which is no reason to stop the system: so it has no budget of deaths.
    scheduler = ChildSpec(
        "scheduler", SCHEDULER, awaited=False, own=None, any_kind=None, grace_seconds=STOP_SECONDS
    )
    children.append(Program(scheduler, scheduler_argv(), environ, folder, beats=True))
    return [child if child.spec.rank == BROKER else replace(child, forks=forks) for child in children]


def _environ_of_parts(settings: Settings) -> dict[str, str]:
    environ = environment_of(settings) | {SUPERVISED: "1"}
    for not_theirs in ("DARKROOM_TOKEN", FILE_VARIABLE, *SYSTEMD):
        environ.pop(not_theirs, None)
    environ["DARKROOM_WORKER_EXIT_WHEN_IDLE_SECONDS"] = "0"  # a part that ends here is started again
    return environ


def renewable(settings: Settings, database: Database) -> dict[str, tuple[str, ...]]:
    """The programs by which a running `up` may replace its parts, by name, in the order in which they are replaced.

    The dispatcher is first: a migration may end the work of an older dispatcher, and nothing is dispatched until its
    successor works.  Not the broker: it is not our program, and its replacement would lose messages for nothing.
    """
    order = {DISPATCHER: 0, WORKERS: 1, SCHEDULER: 2, WEB: 3}
    ours = [program for program in programs(settings, database) if program.spec.rank in order]
    in_order = sorted(ours, key=lambda each: order[each.spec.rank])
    return {program.spec.name: program.argv for program in in_order} | {
        FORK_SERVER: fork_server_argv(settings)
    }


def worker_argv(settings: Settings) -> tuple[str, ...]:
    """One dramatiq master with one worker process; its threads are the slots and those for control messages."""
    threads = settings.worker_threads + CONTROL_THREADS
    shutdown_ms = round(_worker_grace_seconds(settings) * 1000)
    return (
        *_with_our_logs("dramatiq"), "actors", "--processes", "1", "--threads", str(threads),
        "--worker-shutdown-timeout", str(shutdown_ms), "--skip-logging",
        "--worker-fork-timeout", "10",  # dramatiq waits 30 s for other forks by default, and there are none
    )  # fmt: skip


def scheduler_argv() -> tuple[str, ...]:
    return (*_with_our_logs("periodiq"), "actors")


def fork_server_argv(settings: Settings) -> tuple[str, ...]:
    """The program from which the parts are forked, and what it imports for them."""
    of_database = SHARED_ON_POSTGRES if is_postgres(settings.database_url) else SHARED_ON_SQLITE
    return (sys.executable, str(PROGRAMS / "fork_server"), *SHARED, *of_database)


def _with_our_logs(name: str) -> tuple[str, str]:
    return (sys.executable, str(PROGRAMS / name))


def script(name: str) -> str:
    """The path of a command that is installed beside this Python.  Raises SettingFault."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SettingFault(
            f"The command '{name}' is not installed beside {sys.executable}; run `make install` again."
        )
    return found


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder's lock, which the kernel releases at any end of this process.  Raises SettingFault."""
    with open(data_dir / "up.lock", "a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise SettingFault(
                f"Another `darkroom up` (process {holder}) runs on {data_dir}; stop it, or set DARKROOM_DATA_DIR to "
                "another folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _worker_program(settings: Settings, database: Database, name: str, environ: dict[str, str]) -> Program:
    def has_beaten(spawned: Spawned) -> Ready | None:
        for row in database.read(workers.live):
            if row["worker_id"] == spawned.spawn_id:
                return Ready(members=(int(row["pid"]),))
        return None

    def mark(spawned: Spawned) -> None:
        database.write(lambda tx: workers.mark_dead(tx, spawned.spawn_id)).result()

    spec = ChildSpec(name, WORKERS, awaited=False, grace_seconds=_worker_grace_seconds(settings))
    return Program(
        spec,
        worker_argv(settings),
        environ,
        settings.data_dir,
        has_beaten,
        WORKER_SPAWN_ID,
        on_exit=mark,
        beats=True,
    )


def _offering_nothing(settings: Settings) -> dict[str, str]:
    """The offered things exist once and belong to one process: the first worker."""
    return {f"DARKROOM_WORKER_OFFERS__{name}": "0" for name in settings.worker_offers}


def _dispatcher_program(
    settings: Settings, database: Database, argv: tuple[str, ...], environ: dict[str, str]
) -> Program:
    def vacate(spawned: Spawned) -> None:
        database.write(lambda tx: leader.vacate(tx, spawned.spawn_id)).result()

    spec = ChildSpec("dispatcher", DISPATCHER, awaited=False, grace_seconds=STOP_SECONDS)
    return Program(
        spec,
        argv,
        environ,
        settings.data_dir,
        spawn_id_variable=DISPATCHER_SPAWN_ID,
        on_exit=vacate,
        beats=True,
    )


def _mark_the_dead_of_last_time(database: Database) -> None:
    """Mark workers of this host without a process: they died with an `up` that was killed and could not mark them.

    If the process number was reused, the worker looks alive; its missing heartbeats show its death later.
    """

    def mark(tx: Transaction) -> int:
        here = socket.gethostname()
        gone = [row["id"] for row in workers.present(tx) if row["host"] == here and not lives(row["pid"])]
        return sum(workers.mark_dead(tx, worker_id) for worker_id in gone)

    if marked := database.write(mark).result():
        log.warning("workers_died_unseen", count=marked)


def _worker_grace_seconds(settings: Settings) -> float:
    """The drain, the AI time-out of paid requests that must not be sent twice (CORRECTNESS 15), and time to record the
    end."""
    unrepeatable = [
        task_type.ai_timeout_seconds
        for task_type in settings.tasks.values()
        if any(not settings.providers[name].may_bill_twice for name in task_type.all_providers)
    ]
    return settings.drain_seconds + max(unrepeatable, default=0.0) + STOP_SECONDS


def _say_ready(settings: Settings, url_file: Path, start_secret: str) -> None:
    where = address(settings.host, settings.port)
    write_privately(url_file, address(local_host(settings.host), settings.port) + "\n")
    print(f"ready {where}", flush=True)
    if start_secret:  # printed, not logged: logs go further than a terminal
        print(f"in a browser: {start_link(where, start_secret)}", flush=True)
