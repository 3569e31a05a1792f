"""Boot of a process that runs actors: read the settings, declare the actors they name, start and end the worker.

dramatiq calls these hooks in every worker; periodiq calls none, so its logs are set up when it imports this package.
It ignores exceptions of hooks and would go on without actors, so a wrong set-up ends the process here, with one
sentence and exit status 2.  A fault that may pass by itself, such as a database that is away, an old schema or a full
disk, ends it with 1.

The hooks import the code that a worker runs: dispatcher, scheduler and producers import this package too, but run
nothing.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dramatiq import Middleware
from dramatiq.asyncio import get_event_loop_thread

from actors.broker.broker import REFUSING_THREADS
from actors.worker.event_loop import CoroutineWouldNotEnd
from actors.worker.watchdog import Watchdog
from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from supervisor.broker.broker_address import broker_address
from supervisor.broker.broker_client import BadBrokerAddress, open_client
from supervisor.broker.broker_mode import refuse_unusable_mode
from supervisor.core.errors import Fault, SettingFault, as_sentence
from supervisor.database.interface.errors import DatabaseError
from supervisor.objects.private_files import keep_to_ourselves
from supervisor.processes.heartbeat_pipe import Beats, beat_from_loop, beat_from_thread
from supervisor.processes.parent_death import die_with_parent
from supervisor.processes.supervised import exit_status_of_part
from supervisor.telemetry.logs import configure_logs
from supervisor.telemetry.tracing import begin_tracing, end_tracing

if TYPE_CHECKING:
    from dramatiq.worker import Worker as DramatiqWorker

    from actors.broker.broker import DarkroomBroker

EXIT_WRONG_SETTINGS = 2
EXIT_NOT_NOW = 1  # to be started again
STOP_SECONDS = 600.0  # the longest wait of a stop for running tasks; the drain ends them long before


@functools.cache
def settings_of_process() -> Settings:
    """The settings of this process, read once.  Raises SettingsError."""
    return load_settings()


def settle(broker: DarkroomBroker) -> None:
    """Set the broker's address.  Raises SettingsError, BadBrokerAddress."""
    settings = settings_of_process()
    address = broker_address(settings)
    broker.configure(
        client=open_client(address),
        waiting_client_factory=functools.partial(open_client, address),
        slots=REFUSING_THREADS,
    )


class Boot(Middleware):
    """Reads settings at process boot, opens and closes this process's worker around its threads."""

    def after_process_boot(self, broker: Any) -> None:
        from actors.entry.task_actors import declare_processing_actors
        from actors.registry.adapters import check_providers

        try:
            settings = settings_of_process()
            configure_logs(settings, "worker")
            keep_to_ourselves(settings)
            begin_tracing("worker")
            check_providers(settings)
            refuse_unusable_mode(settings)
            declare_processing_actors(broker, settings)
        except (SettingsError, SettingFault, BadBrokerAddress) as error:
            _give_up(error)

    def before_worker_boot(self, broker: Any, worker: DramatiqWorker) -> None:
        from actors.entry.claim_handlers import WORK
        from actors.worker.worker import open_worker

        die_with_parent()  # dramatiq's master, which forks this process: the signal isn't inherited over a fork
        loop_thread = get_event_loop_thread()
        assert loop_thread is not None
        settings = settings_of_process()
        for watchdog in broker.middleware:
            if isinstance(watchdog, Watchdog):
                # A blocked loop makes a silent worker: its process ends before other workers get its tasks.
                watchdog.blocked_seconds = settings.silent_seconds
                beat_from_loop(loop_thread.loop, Beats(os.environ), also=watchdog.note_turn)
        try:
            loop_thread.run_coroutine(open_worker(settings, broker, WORK))
        except (Fault, DatabaseError) as error:
            _give_up(as_sentence(error), exit_status_of_part(error))
        except BadBrokerAddress as error:
            _give_up(error)
        except OSError as error:
            _give_up(error, EXIT_NOT_NOW)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if isinstance(exception, CoroutineWouldNotEnd):
            _on_loop("end_for_a_stuck_attempt")

    def before_worker_shutdown(self, broker: Any, worker: DramatiqWorker) -> None:
        _on_loop("begin_drain")

    def after_worker_shutdown(self, broker: Any, worker: DramatiqWorker) -> None:
        loop_thread = get_event_loop_thread()
        if loop_thread is not None:
            from actors.worker.worker import close_worker, current_worker

            loop_thread.run_coroutine(current_worker().until_all_ended(STOP_SECONDS))
            loop_thread.run_coroutine(close_worker())
        end_tracing()


def boot_scheduler() -> None:
    """Set up logging if this is periodiq's process, which has no hook for it: it imports us, then works."""
    if Path(sys.argv[0]).stem != "periodiq":
        return
    try:
        configure_logs(settings_of_process(), "scheduler")
    except SettingsError as error:
        _give_up(error)
    logging.getLogger("periodiq").addFilter(_say_plainly)
    beat_from_thread(Beats(os.environ))


def _say_plainly(record: logging.LogRecord) -> bool:
    """No table at the start; and one sentence for an error that ends the scheduler, such as a broker that is away."""
    if record.exc_info:
        record.msg, record.args = "the scheduler ends: %s", (record.exc_info[1],)
        record.exc_info = None
    return record.funcName != "print_periodic_actors" and "Please file an issue" not in record.getMessage()


def _on_loop(method: str) -> None:
    """Call a method of this process's worker."""
    loop_thread = get_event_loop_thread()
    if loop_thread is not None:
        from actors.worker.worker import current_worker

        loop_thread.loop.call_soon_threadsafe(getattr(current_worker(), method))


def _give_up(error: Exception | str, status: int = EXIT_WRONG_SETTINGS) -> NoReturn:
    print(f"darkroom: {error}", file=sys.__stderr__, flush=True)
    os._exit(status)
