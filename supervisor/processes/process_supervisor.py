"""Keep a set of programs running: the plan decides, this loop does.

One thread plans, forks, waits and reaps.  Signal handlers only set flags; a byte from the kernel
(`signal.set_wakeup_fd`) wakes the loop, so an exit is noticed at once.  Slow work (readiness checks, marking rows) runs
in helper threads, which return results through the same pipe.  So a hanging database never stops the loop from stopping
or restarting parts.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
import structlog

from supervisor.core.ids import new_ulid
from supervisor.health.frozen_children import LOOK_SECONDS, FrozenChildren
from supervisor.processes import restart_plan, rolling_restart
from supervisor.processes.child import Child, adopt_orphans, reap, start_child
from supervisor.processes.forked_parts import ForkServer, NotForked
from supervisor.processes.heartbeat_pipe import BEAT_SECONDS, Beats
from supervisor.processes.heartbeat_pipe import VARIABLE as BEAT_VARIABLE
from supervisor.processes.orphan_killer import OrphanKiller
from supervisor.processes.restart_plan import ChildSpec, Death, GiveUp, Kill, Phase, Spawn, Terminate
from supervisor.processes.rolling_restart import Renewal, Step

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# After an answer, until a program that can't beat is asked again; without one, it is asked as often as others beat.
AFTER_ANSWER_SECONDS = 4.0
PROBE_SECONDS = 0.05  # between two readiness checks of a child
RENEWAL_SECONDS = 0.2  # between two checks of a renewal's progress
FORK_SERVER = "fork_server"  # names the fork server's program among those of a renewal
GROUP_SECONDS = 0.005  # between two checks of a dying group
LAST_WORDS_SECONDS = 5.0  # at the end, for deaths and marks still under way
HURRIED_WORDS_SECONDS = 0.5

log = structlog.get_logger("supervisor")


@dataclass(frozen=True)
class Spawned:
    """The data about a child for a readiness check or an exit hook."""

    name: str
    pid: int
    spawn_id: str


@dataclass(frozen=True)
class Ready:
    """The child works.  members: pids of its group whose death is its death (dramatiq's worker is a grandchild)."""

    members: tuple[int, ...] = ()


@dataclass(frozen=True)
class Program:
    """A child spec and how to run it.

    ready: called in a helper thread until it yields Ready; without one a child is ready once started.
    spawn_id_variable: names the environment variable in which the child finds the ULID of its spawn.
    on_exit: called in a helper thread when the child and all of its group are gone.
    beats: it sends beats by `supervisor.processes.heartbeat_pipe`, and is killed when it is silent
    (`supervisor.health.frozen_children`).  answers: for a program that can't beat; called in a helper thread again and
    again, and True counts as a beat.
    """

    spec: ChildSpec
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path
    ready: Callable[[Spawned], Ready | None] | None = None
    spawn_id_variable: str = ""
    on_exit: Callable[[Spawned], None] | None = None
    beats: bool = False
    answers: Callable[[], bool] | None = None
    descriptors: tuple[int, ...] = ()  # that the child inherits
    forks: ForkServer | None = None  # from which the child is forked, if it can be

    @property
    def shows_life(self) -> bool:
        return self.beats or self.answers is not None


@dataclass(frozen=True)
class Wanted:
    """A requested renewal.  argv: of the parts' new programs, by name, and of their fork server."""

    id: str
    argv: Mapping[str, tuple[str, ...]]


class ProcessSupervisor:
    """Runs programs until a stop or until one of them loops in crashes.

    state_path: a small JSON file for the operator page, the metrics and the doctor, replaced at each change.
    on_all_ready: called once, in a helper thread, when everything is ready.
    signs: judges which children are frozen.
    on_stopping: called once, when everything begins to stop.
    asked_to_renew: called at each look for life; the request that it returns is carried out
    (`supervisor.processes.rolling_restart`).
    """

    def __init__(
        self,
        programs: list[Program],
        state_path: Path,
        on_all_ready: Callable[[], None] | None = None,
        signs: FrozenChildren | None = None,
        on_stopping: Callable[[], None] = lambda: None,
        asked_to_renew: Callable[[], Wanted | None] = lambda: None,
    ) -> None:
        self._programs = {program.spec.name: program for program in programs}
        self._plan = restart_plan.new_plan([program.spec for program in programs])
        self._state_path = state_path
        self._on_all_ready = on_all_ready
        self._children: dict[str, Child] = {}
        self._orphan_killer = OrphanKiller()
        self._probes: dict[str, tuple[str, concurrent.futures.Future[Ready | None]]] = {}
        self._probe_again_at: dict[str, float] = {}
        self._on_stopping = on_stopping
        self._is_stopping = False
        self._asked_to_renew = asked_to_renew
        self._renewal = Renewal("", ())
        self._successor: Child | None = None
        self._relieved: Child | None = None
        self._relieved_until = 0.0
        self._new_argv: Mapping[str, tuple[str, ...]] = {}
        self._new_forks: ForkServer | None = None
        self._fork_servers = {program.forks for program in programs if program.forks is not None}
        self._signs = signs or FrozenChildren()
        self._look_at = 0.0
        self._asked: dict[str, tuple[str, concurrent.futures.Future[bool]]] = {}
        self._ask_at: dict[str, float] = {}
        self._last_death: dict[str, Death] = {}
        self._signals: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._helpers = concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix="supervisor-helper")
        self._help_under_way: set[concurrent.futures.Future[None]] = set()
        self._written_state = b""
        self._beats = Beats(
            os.environ
        )  # for systemd, or a container's health check, that watches `up` itself

    def run(self) -> int:
        """Supervise until everything is stopped.  0 after a polite stop, 1 after a crash loop or a hurried stop.

        Only from the main thread.  A helper that hangs is left behind: end the program with `os._exit`.
        """
        assert threading.current_thread() is threading.main_thread()
        adopt_orphans()
        before = {number: signal.signal(number, self._note_signal) for number in STOP_SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        old_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            while not self.run_once():
                self._beats.beat()
                self._wait()
        finally:
            self._end_everything()
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._close()
        return 1 if self._plan.gave_up or self._plan.hurried else 0

    def run_once(self) -> bool:
        """Handle all events, carry out due acts.  True when everything has ended."""
        self._take_signals()
        self._take_deaths()
        self._take_probes()
        self._look_for_life()
        self._renew()
        self._plan, acts = restart_plan.decide(self._plan, time.monotonic())
        for act in acts:
            self._do(act)
        if self._plan.stopping and not self._is_stopping:
            self._is_stopping = True
            self._on_stopping()
        self._orphan_killer.name([*(child.pid for child in self._everybody()), *self._forking()])
        self._write_state()
        if self._plan.all_ready and self._on_all_ready is not None:
            self._help(self._on_all_ready)
            self._on_all_ready = None
        return self._plan.over and not self._everybody()

    def _everybody(self) -> list[Child]:
        """Children, with the additional processes of a renewal."""
        beside = [child for child in (self._successor, self._relieved) if child is not None]
        return [*self._children.values(), *beside]

    def _forking(self) -> dict[int, ForkServer]:
        """The fork servers by their pids."""
        return {forks.pid: forks for forks in self._fork_servers if forks.pid is not None}

    # --- events ---

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
        while self._signals:
            number = self._signals.pop(0)
            self._plan = restart_plan.note_stop(self._plan)
            how = "stopping at once" if self._plan.hurried else "draining; a second signal stops at once"
            log.info(how, signal=signal.Signals(number).name)

    def _take_deaths(self) -> None:
        by_pid, forking = {child.pid: child for child in self._everybody()}, self._forking()
        for pid, status in reap():
            if pid in by_pid:
                by_pid[pid].note_end(status)
            elif pid in forking:
                forking[pid].note_end()
        for child in self._everybody():
            if child.is_gone:
                self._bury(child) if self._children.get(child.name) is child else self._bury_beside(child)
            elif child.status is None and child.has_lost_a_member():
                self._forget_watches(child)
                child.kill()  # the rest of the group is of no use without it

    def _bury(self, child: Child) -> None:
        assert child.status is not None
        now = time.monotonic()
        self._forget_watches(child)
        del self._children[child.name]
        child.close_pipe()
        death = self._last_death[child.name] = Death(now, child.status, child.why_killed)
        if not self._plan.stopping:
            log.warning(f"{child.name} ended ({death})", process=child.name, pid=child.pid)
        self._plan = restart_plan.note_exit(self._plan, child.name, child.status, now)
        self._tell_of_exit(child)

    def _tell_of_exit(self, child: Child) -> None:
        on_exit = self._programs[child.name].on_exit
        if on_exit is not None:
            spawned = Spawned(child.name, child.pid, child.spawn_id)
            self._help(lambda: on_exit(spawned))

    def _take_probes(self) -> None:
        now = time.monotonic()
        for name, child in self._children.items():
            if self._plan.child(name).phase is not Phase.STARTING or child.status is not None:
                continue
            ready = self._programs[name].ready
            if ready is None:
                self._plan = restart_plan.note_ready(self._plan, name, now)
                continue
            spawn_id, probe = self._probes.get(name, ("", None))
            if probe is not None and spawn_id == child.spawn_id:
                if not probe.done():
                    continue
                del self._probes[name]
                if (answer := _answer(name, probe)) is not None:
                    self._note_ready(child, answer, now)
                    continue
                self._probe_again_at[name] = now + PROBE_SECONDS
            elif now >= self._probe_again_at.get(name, 0.0):
                spawned = Spawned(name, child.pid, child.spawn_id)
                future = self._helpers.submit(ready, spawned)
                self._probes[name] = (child.spawn_id, future)
                future.add_done_callback(lambda _: self._wake())

    def _note_ready(self, child: Child, ready: Ready, now: float) -> None:
        for pid in ready.members:
            if (pidfd := child.watch(pid)) is not None:
                self._selector.register(pidfd, selectors.EVENT_READ)
        if self._programs[child.name].answers is not None:
            child.beats += 1  # it has answered just now: frozen from here on, it has no time of a start left
        self._plan = restart_plan.note_ready(self._plan, child.name, now)
        log.debug(f"{child.name} is ready", process=child.name, pid=child.pid)

    # --- looking for life ---

    def _look_for_life(self) -> None:
        """At intervals: kill children that have been silent for too long.  A child that was asked to stop has its grace
        instead."""
        now = time.monotonic()
        if self._plan.stopping or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        self._take_request()
        watched = [child for child in self._everybody() if self._is_watched(child)]
        for child in watched:
            child.hear_beats()
            self._ask(child, now)
        frozen = self._signs.silent({child.spawn_id: child.beats for child in watched}, now)
        for child in watched:
            if child.spawn_id in frozen:
                log.error(f"{child.name} is killed: it shows no life", process=child.name, pid=child.pid)
                self._forget_watches(child)
                child.kill("it showed no life")

    def _is_watched(self, child: Child) -> bool:
        return child.status is None and child is not self._relieved and self._programs[child.name].shows_life

    def _ask(self, child: Child, now: float) -> None:
        """Call its `answers` again and again, one call at a time."""
        answers = self._programs[child.name].answers
        if answers is None:
            return
        spawn_id, asked = self._asked.get(child.name, ("", None))
        if asked is not None and spawn_id == child.spawn_id:
            if not asked.done():
                return
            has_answered = asked.exception() is None and asked.result()
            if has_answered:
                child.beats += 1
                self._ask_at[child.name] = now + AFTER_ANSWER_SECONDS
            del self._asked[child.name]
        if now >= self._ask_at.get(child.name, 0.0):
            self._ask_at[child.name] = now + BEAT_SECONDS
            self._asked[child.name] = (child.spawn_id, self._helpers.submit(answers))

    # --- renewing ---

    def _take_request(self) -> None:
        """Begin a requested renewal, unless one is under way."""
        is_free = self._renewal.is_over and self._successor is None and self._relieved is None
        wanted = self._asked_to_renew() if is_free else None
        if wanted is None:
            return
        self._new_argv = wanted.argv
        names = [name for name in wanted.argv if name in self._programs]
        forks = next(iter(self._fork_servers), None)
        if forks is not None and FORK_SERVER in wanted.argv:
            self._new_forks = forks.successor(wanted.argv[FORK_SERVER])
            self._fork_servers.add(self._new_forks)
        self._renewal = Renewal(wanted.id, tuple(names))
        log.info("parts are replaced, one after the other", parts=names)

    def _renew(self) -> None:
        """The next step of a renewal, if there is one under way."""
        now, coming = time.monotonic(), self._successor
        self._end_relieved(now)
        if self._plan.stopping:
            if not self._renewal.is_over:
                self._renewal = rolling_restart.fail(self._renewal, "everything is stopped")
            if coming is not None:
                coming.kill()
            return
        if self._new_forks is not None and not self._new_forks.is_settled():
            return
        ended = "" if coming is None or coming.status is None else str(Death(now, coming.status))
        ready = self._answer_of(coming) if coming is not None and not ended else None
        self._renewal, step = rolling_restart.decide(
            self._renewal, now, is_up=ready is not None, ended=ended, old_is_gone=self._relieved is None
        )
        if step is Step.START:
            self._start_successor(self._renewal.name)
        elif step is Step.RELIEVE:
            assert coming is not None and ready is not None
            self._relieve(coming, ready, now)
        elif step is Step.ABANDON:
            log.error(f"the replacement of parts ends: {self._renewal.failed}")
            if coming is not None:
                coming.kill()
        elif step is Step.NONE:
            self._close_unused_fork_servers()

    def _close_unused_fork_servers(self) -> None:
        """After a renewal: those of a program that no part is of any more."""
        self._new_forks = None
        used = {program.forks for program in self._programs.values()}
        for forks in self._fork_servers - used:
            forks.close()
            self._fork_servers.discard(forks)

    def _end_relieved(self, now: float) -> None:
        """Kill an old part whose grace is over."""
        old = self._relieved
        if old is not None and old.status is None and (now > self._relieved_until or self._plan.hurried):
            log.warning(f"the old {old.name} is killed: it did not stop in time", pid=old.pid)
            old.kill()

    def _renewed(self, name: str) -> Program:
        """From now on the successor's program is started when the part dies."""
        return replace(self._programs[name], argv=tuple(self._new_argv[name]), forks=self._new_forks)

    def _start_successor(self, name: str) -> None:
        try:
            self._successor = self._started(self._renewed(name))
        except OSError as error:
            self._renewal = rolling_restart.fail(
                self._renewal, f"the new {name} could not be started: {error.strerror}"
            )

    def _relieve(self, coming: Child, ready: Ready, now: float) -> None:
        """The successor takes the name and the place of the old part, which is asked to stop."""
        name = coming.name
        self._successor, self._relieved = None, self._children.pop(name, None)
        self._children[name], self._programs[name] = coming, self._renewed(name)
        self._plan = restart_plan.note_replaced(self._plan, name, now)
        self._note_ready(coming, ready, now)
        if (old := self._relieved) is not None:
            log.info(f"the new {name} is up; the old one is asked to stop", pid=old.pid)
            self._relieved_until = now + self._programs[name].spec.grace_seconds
            old.terminate()

    def _answer_of(self, coming: Child) -> Ready | None:
        """Whether the successor is up: it beats, if it can, and its readiness check says so."""
        program = self._programs[coming.name]
        if program.beats and not coming.beats:
            return None
        if program.ready is None:
            return Ready()
        asked_of, probe = self._probes.get(coming.spawn_id, ("", None))
        if probe is None or asked_of != coming.spawn_id:
            spawned = Spawned(coming.name, coming.pid, coming.spawn_id)
            self._probes[coming.spawn_id] = coming.spawn_id, self._helpers.submit(program.ready, spawned)
            return None
        if not probe.done():
            return None
        del self._probes[coming.spawn_id]
        return _answer(coming.name, probe)

    def _bury_beside(self, child: Child) -> None:
        """The end of a failed successor, or of an old part that was replaced, is not a death of the part."""
        self._forget_watches(child)
        child.close_pipe()
        self._probes.pop(child.spawn_id, None)
        if child is self._relieved:
            self._relieved = None
        elif self._renewal.is_over:
            self._successor = None
        else:
            return  # its end is handled first
        self._tell_of_exit(child)

    # --- acting ---

    def _do(self, act: restart_plan.Act) -> None:
        match act:
            case Spawn(name):
                self._spawn(self._programs[name])
            case Terminate(name):
                self._children[name].terminate()
            case Kill(name):
                log.warning(f"{name} is killed: it did not stop in time", process=name)
                self._children[name].kill()
            case GiveUp(sentence):
                log.error(sentence)

    def _spawn(self, program: Program) -> None:
        name = program.spec.name
        try:
            self._children[name] = self._started(program)
        except OSError as error:
            log.error(f"{name} could not be started: {error.strerror}: {program.argv[0]}", process=name)
            self._last_death[name] = Death(time.monotonic(), 127)
            self._plan = restart_plan.note_exit(self._plan, name, 127, time.monotonic())
            self._wake()

    def _started(self, program: Program) -> Child:
        """Start its child, and read its beats if it has any.  Raises OSError."""
        spawn_id, environ = new_ulid(), dict(program.environ)
        if program.spawn_id_variable:
            environ[program.spawn_id_variable] = spawn_id
        if not program.beats:
            return _start(program, spawn_id, environ, program.descriptors)
        ours, its = os.pipe()
        environ[BEAT_VARIABLE] = str(its)
        try:
            child = _start(program, spawn_id, environ, [its, *program.descriptors])
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(its)
        child.beats_into(ours)
        return child

    def _help(self, call: Callable[[], None]) -> None:
        """Run it in a helper thread; a failure is logged."""

        def run() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - a helper may fail in any way; the loop must go on
                log.error(f"a helper of the supervisor failed: {error}", error=type(error).__name__)

        self._help_under_way = {help for help in self._help_under_way if not help.done()}
        self._help_under_way.add(self._helpers.submit(run))

    def _end_everything(self) -> None:
        """Kill all remaining children, however the loop ended."""
        for child in self._everybody():
            child.kill()
        until = time.monotonic() + LAST_WORDS_SECONDS
        while self._everybody() and time.monotonic() < until:
            self._take_deaths()
            time.sleep(GROUP_SECONDS)

    # --- waiting ---

    def _wait(self) -> None:
        now = time.monotonic()
        moments = [moment for moment in [restart_plan.next_moment(self._plan)] if moment is not None]
        if any(child.status is not None for child in self._everybody()):
            moments.append(now + GROUP_SECONDS)
        if not self._plan.stopping and any(map(self._is_watched, self._everybody())):
            moments.append(self._look_at)
        if not self._renewal.is_over or self._relieved is not None:
            moments.append(now + RENEWAL_SECONDS)
        for name, child in self._plan_children():
            if child.phase is Phase.STARTING and name not in self._probes:
                moments.append(max(now, self._probe_again_at.get(name, now)))
        if self._beats.are_wanted:
            moments.append(now + BEAT_SECONDS)
        timeout = max(0.0, min(moments) - now) if moments else None
        self._selector.select(timeout)

    def _plan_children(self) -> list[tuple[str, restart_plan.Child]]:
        return [(child.spec.name, child) for child in self._plan.children]

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: it is over
            os.write(self._wake_write, b"\0")

    def _forget_watches(self, child: Child) -> None:
        for pidfd in child.stop_watching():
            self._selector.unregister(pidfd)

    def _close(self) -> None:
        for forks in self._fork_servers:
            forks.close()
        patience = HURRIED_WORDS_SECONDS if self._plan.hurried else LAST_WORDS_SECONDS
        concurrent.futures.wait(self._help_under_way, timeout=patience)
        self._helpers.shutdown(wait=False, cancel_futures=True)  # a hanging database must not delay us
        self._orphan_killer.close()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # --- reporting ---

    def _write_state(self) -> None:
        wall = time.time() - time.monotonic()
        processes = []
        for name, planned in self._plan_children():
            child, death = self._children.get(name), self._last_death.get(name)
            processes.append(
                {
                    "name": name,
                    "pid": child.pid if child else None,
                    "spawn_id": child.spawn_id if child else None,
                    "state": planned.phase.value,
                    "restarts": planned.restarts,
                    "since": round(wall + planned.since, 2) if planned.since else None,
                    "last_exit": {"status": death.status, "text": str(death), "at": round(wall + death.at, 2)}
                    if death
                    else None,
                }
            )
        phases = tuple((p["name"], p["pid"], p["state"], p["restarts"]) for p in processes)
        fingerprint = orjson.dumps([phases, self._plan.stopping, asdict(self._renewal)])
        if fingerprint == self._written_state:
            return
        self._written_state = fingerprint
        state = {
            "supervisor": {
                "pid": os.getpid(),
                "stopping": self._plan.stopping,
                "gave_up": self._plan.gave_up,
            },
            "renewal": asdict(self._renewal),
            "processes": processes,
        }
        draft = self._state_path.with_name(f".{self._state_path.name}.{os.getpid()}")
        try:
            draft.write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2))
            os.replace(draft, self._state_path)
        except OSError as error:  # a full disk must not stop the supervisor
            log.warning(f"the state file could not be written: {error.strerror}", path=str(self._state_path))


def _start(program: Program, spawn_id: str, environ: Mapping[str, str], descriptors: Sequence[int]) -> Child:
    """Raises OSError."""
    what = (program.spec.name, spawn_id, program.argv, environ, program.cwd, descriptors)
    if program.forks is not None:
        with contextlib.suppress(NotForked):
            return program.forks.start(*what)
    return start_child(*what)


def _answer(name: str, probe: concurrent.futures.Future[Ready | None]) -> Ready | None:
    error = probe.exception()
    if error is not None:
        log.debug(f"{name} could not be asked whether it is ready: {error}", process=name)
        return None
    return probe.result()
