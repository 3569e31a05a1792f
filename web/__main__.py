"""`darkroom web`: the HTTP part alone.

Exit status 0 after a drain, 2 for a wrong set-up, 1 if it can't work now: start it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys

from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from metrics.exposition import Exposition
from metrics.web_metrics import WebMetrics
from supervisor.core.errors import Fault, SettingFault, as_sentence
from supervisor.database.interface.database import Database
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.open_database import open_database
from supervisor.database.open_wakeups import feed_wakeups
from supervisor.net.listen_socket import inherited, listen_on
from supervisor.objects.disk_space import full_disk, is_full
from supervisor.objects.private_files import keep_to_ourselves, write_privately
from supervisor.processes.heartbeat_pipe import Beats, beat_from_loop
from supervisor.processes.supervised import exit_status_of_part, is_supervised
from supervisor.schema.migrate import check_version
from supervisor.security.secret import read_or_make_secret
from supervisor.security.start_secret import start_secret_of
from supervisor.telemetry.logs import configure_logs
from supervisor.telemetry.tracing import begin_tracing, end_tracing
from web.app.app import build_app
from web.app.server import WebServer
from web.handling.context import make_context

log = logging.getLogger("darkroom.web")


def main() -> int:
    """Serve until SIGTERM or SIGINT; a second one stops at once."""
    try:
        settings = load_settings()
        configure_logs(settings, "web")
        begin_tracing("web")
        keep_to_ourselves(settings)
        _allow_many_connections()
        database = open_database(settings)
        check_version(database, settings, may_be_older=is_supervised())
        asyncio.run(serve(settings, database))
    except (SettingsError, SettingFault) as fault:
        print(f"darkroom web: {fault}", file=sys.stderr)
        return 2 if isinstance(fault, SettingsError) else exit_status_of_part(fault)
    except (Fault, DatabaseError) as fault:
        print(f"darkroom web: {as_sentence(fault)}", file=sys.stderr)
        return 1
    except OSError as error:
        if not is_full(error):
            raise
        print(f"darkroom web: {full_disk(settings.data_dir)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


async def serve(settings: Settings, database: Database) -> None:
    """Bind, serve, print the address; drain when asked to stop."""
    secret = read_or_make_secret(settings)
    shared = inherited(os.environ)
    listening = shared or listen_on(settings.host, settings.port)

    def exposition(metrics: WebMetrics) -> bytes:
        return collected.render([metrics.registry])

    collected = Exposition(settings, database)
    context = make_context(settings, database, secret, exposition)
    if settings.lets_demo_in:
        context.start_secret = start_secret_of(settings.data_dir)
    wakeups = feed_wakeups(database, settings)
    server = WebServer(build_app(context, wakeups), context, listening, is_shared=shared is not None)
    stop = _stop_signals()
    await server.start()
    beat_from_loop(asyncio.get_running_loop(), Beats(os.environ))  # the first beat shows that it serves
    url_file = settings.data_dir / "url"
    try:
        write_privately(url_file, server.address + "\n")
        log.info("serving on %s", server.address)
        await stop.wait()
        log.info("draining")
    finally:
        await server.stop()
        wakeups.close()
        await asyncio.to_thread(database.close)
        await asyncio.to_thread(end_tracing)


def _stop_signals() -> asyncio.Event:
    """Set at the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()

    def note() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, note)
    return stop


def _allow_many_connections() -> None:
    """Every stream is a file descriptor: ask for as many as the host allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
