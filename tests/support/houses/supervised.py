"""A process supervisor for tests, as a program of its own: `python -m tests.support.houses.supervised FOLDER
SPECS.json`.

It writes each call of its hooks to FOLDER/events, one line each, and its children write their pids to FOLDER. Further
arguments: with "without looks" it never checks by itself, and only events make it act; with "forked" its children are
forked from a fork server.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from supervisor.health.frozen_children import FrozenChildren
from supervisor.processes import process_supervisor
from supervisor.processes.forked_parts import ForkServer
from supervisor.processes.launcher import PROGRAMS
from supervisor.processes.process_supervisor import ProcessSupervisor, Program, Ready, Spawned
from supervisor.processes.restart_plan import Budget, ChildSpec
from supervisor.processes.upgrade_request import take

# A child: notes "NAME PID" in the folder's log at its start and "NAME stopped" when it is asked to stop.
CHILD = """
import os, signal, sys, time
folder, name, mode = sys.argv[1:4]
def note(what):
    with open(folder + "/log", "a") as log:
        log.write(f"{name} {what} {time.monotonic()}\\n")
def stop(*_):
    note("stopped")
    if mode == "slow": time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else stop)
if mode == "crash":
    sys.exit(3)
if mode == "master":  # as dramatiq: a forked worker, whose death the master notices only much later
    from supervisor.processes.parent_death import die_with_parent
    master = os.getpid()
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(master)
        open(f"{folder}/{name}.worker", "w").write(str(os.getpid()))
        while True: time.sleep(60)
if mode == "deaf":  # one that has not asked to die with its parent yet, and is frozen before it can
    import ctypes
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    note(f"started {os.getpid()}")
    os.kill(os.getpid(), signal.SIGSTOP)
if mode == "tells":  # all by which a program could see how it was started
    import json
    with open(f"{folder}/{name}.told", "w") as told:
        json.dump({
            "argv": sys.argv, "environ": sorted(os.environ.items()), "cwd": os.getcwd(), "path": sys.path,
            "name": __name__, "main": sys.modules["__main__"].__dict__.get("mode"),
            "leads": os.getsid(0) == os.getpid(), "files": sorted(os.listdir("/proc/self/fd")), "parent": os.getppid(),
            "shown": open("/proc/self/cmdline").read(), "comm": open("/proc/self/comm").read(),
            "signals": [str(signal.getsignal(each)) for each in (
                signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)],
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        }, told)
note(f"started {os.getpid()}")
if mode == "beating":
    from supervisor.processes.heartbeat_pipe import Beats
    beats = Beats(os.environ)
    beats.beat()
    note("beaten")
while True:
    time.sleep(0.2 if mode == "beating" else 60)
    if mode == "beating":
        beats.beat()
"""
FORK_SERVER_ARGV = (sys.executable, str(PROGRAMS / "fork_server"), "json", "mimetypes:init")
# Long enough for a busy machine, and so that the supervisor's own looks are no gaps.
SIGNS = FrozenChildren(silent_seconds=6.0, start_seconds=60.0)


def program(
    folder: Path, name: str, rank: int = 0, mode: str = "good", own: int = 5, grace: float = 5.0
) -> Program:
    """A child in one of the modes of CHILD."""

    def hear(spawned: Spawned) -> None:
        with (folder / "events").open("a") as events:
            events.write(f"exit {spawned.name} {spawned.pid} {spawned.spawn_id} {time.monotonic()}\n")

    def worker_is_up(spawned: Spawned) -> Ready | None:
        try:
            pid = int((folder / f"{name}.worker").read_text())
            return Ready((pid,)) if os.getpgid(pid) == spawned.pid else None
        except (OSError, ValueError):
            return None

    script = folder / "child.py"
    if not script.exists():
        script.write_text(CHILD)
    return Program(
        ChildSpec(name, rank, own=Budget(own, 30), grace_seconds=grace),
        (sys.executable, str(script), str(folder), name, mode),
        environ(),
        folder,
        ready=worker_is_up if mode == "master" else None,
        spawn_id_variable="SPAWN",
        on_exit=hear,
        beats=mode == "beating",
        answers=(folder / f"{name}.answers").exists if mode == "asked" else None,
    )


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.getcwd()}


def main() -> int:
    folder, specs, how = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    if "without looks" in how:
        process_supervisor.LOOK_SECONDS = 3600.0
    forks = ForkServer(FORK_SERVER_ARGV, environ(), folder) if "forked" in how else None
    if forks is not None:
        forks.is_settled(wait=True)
    supervisor = ProcessSupervisor(
        [replace(program(folder, **spec), forks=forks) for spec in specs],
        folder / "processes.json",
        on_all_ready=lambda: print("all ready", flush=True),
        signs=SIGNS,
        asked_to_renew=lambda: take(folder),
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
