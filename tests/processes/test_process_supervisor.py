"""The process supervisor with real processes: dead parts start again, a stop goes in order, no process is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from supervisor.processes.parent_death import COULD_NOT_BE_STARTED, dying_with_us
from supervisor.processes.process_supervisor import FORK_SERVER
from supervisor.processes.upgrade_request import ask
from tests.support.houses.supervised import FORK_SERVER_ARGV, program
from tests.support.waiting import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).parents[2]


class House:
    """A running supervisor and its output."""

    def __init__(self, folder: Path, specs: list[dict[str, Any]], *more: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.houses.supervised", str(folder), json.dumps(specs), *more],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def state(self) -> dict[str, dict[str, Any]]:
        try:
            processes = json.loads((self.folder / "processes.json").read_text())["processes"]
        except FileNotFoundError:
            return {}
        return {process["name"]: process for process in processes}

    def pid(self, name: str) -> int:
        return int(
            eventually(
                f"{name} is ready",
                lambda: self.state().get(name, {}).get("state") == "ready" and self.state()[name]["pid"],
            )
        )

    def lines(self, file: str) -> list[list[str]]:
        path = self.folder / file
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def started(self, name: str) -> list[float]:
        """When the child reported each of its starts."""
        return [float(line[-1]) for line in self.lines("log") if line[:2] == [name, "started"]]

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        return self.process.wait(timeout=seconds)

    def output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def everybody(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def fork_servers(self) -> list[psutil.Process]:
        return self.everybody_and_fork_servers()[1]

    def everybody_and_fork_servers(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """All at one moment, and those of them that are fork servers, of which there are two while one is replaced."""
        everybody, found = self.everybody(), []
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie
                found += [process] if "fork_server" in " ".join(process.cmdline()) else []
        return everybody, found

    def fork_server(self) -> psutil.Process:
        """The only one.  A part that was just forked looks like one until it has a name of its own."""
        (found,) = eventually(
            "one fork server", lambda: (they := self.fork_servers()) and len(they) == 1 and they
        )
        return found


@pytest.fixture(params=["started", "forked"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., House]]:
    """Houses whose children are programs of their own, or forked from a process that has imported what they share."""
    houses: list[House] = []

    def build(*specs: dict[str, Any], looks: bool = True) -> House:
        houses.append(House(tmp_path, list(specs), request.param, *([] if looks else ["without looks"])))
        return houses[-1]

    yield build
    for built in houses:
        built.process.kill()
        built.process.wait()
        assert built.process.stdout is not None
        built.process.stdout.close()


def test_an_exit_is_noticed_when_it_happens_and_the_child_is_started_again(house):
    home = house({"name": "web"}, looks=False)
    pid = home.pid("web")
    eventually("it started", lambda: home.started("web"))
    for n in range(3):
        os.kill(pid, signal.SIGKILL)
        eventually("the hook heard of it", lambda n=n: len(home.lines("events")) == n + 1)
        pid = eventually(
            "another runs",
            lambda pid=pid: home.state()["web"]["pid"] not in (None, pid) and home.state()["web"]["pid"],
        )
        eventually("it started again", lambda n=n: len(home.started("web")) == n + 2)
        assert home.state()["web"]["restarts"] == n + 1
        assert home.state()["web"]["last_exit"]["text"] == "signal SIGKILL"


def test_a_dead_grandchild_is_noticed_at_once_and_its_group_goes_with_it(house):
    home = house({"name": "worker", "mode": "master"}, looks=False)
    master = home.pid("worker")
    worker = int((home.folder / "worker.worker").read_text())
    os.kill(worker, signal.SIGKILL)
    eventually("the hook heard of it", lambda: home.lines("events"))
    event = home.lines("events")[0]
    assert event[:3] == ["exit", "worker", str(master)]
    assert not psutil.pid_exists(master) and not psutil.pid_exists(worker)


def test_a_death_is_reported_only_when_the_whole_group_has_gone(house):
    home = house({"name": "worker", "mode": "master"})
    master = home.pid("worker")
    worker = int((home.folder / "worker.worker").read_text())
    os.kill(master, signal.SIGKILL)
    eventually("the hook heard of it", lambda: home.lines("events"))
    assert not psutil.pid_exists(worker)


def test_each_spawn_has_an_id_of_its_own(house):
    home = house({"name": "web"})
    for n in range(2):
        os.kill(home.pid("web"), signal.SIGKILL)
        eventually("the hook heard of it", lambda n=n: len(home.lines("events")) == n + 1)
    ids = [event[3] for event in home.lines("events")]
    assert len(set(ids)) == 2 and all(len(spawn_id) == 26 for spawn_id in ids)


def test_kill_9_of_the_supervisor_leaves_no_process(house):
    home = house(
        {"name": "broker"},
        {"name": "worker", "rank": 1, "mode": "master"},
        {"name": "web", "rank": 2, "mode": "stubborn"},
    )
    home.pid("worker")
    home.pid("web")
    all_are_there = "three children, a grandchild, and the shell that waits for the end"
    everybody = eventually(
        all_are_there,
        lambda: len((they := home.everybody_and_fork_servers())[0]) - len(they[1]) == 5 and they[0],
    )
    home.process.kill()
    _, alive = psutil.wait_procs(everybody, timeout=PATIENCE_SECONDS)
    assert not [
        process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def test_a_child_that_is_frozen_before_it_can_ask_to_die_with_its_parent_is_ended_all_the_same(house):
    home = house({"name": "worker", "mode": "deaf"})
    pid = home.pid("worker")
    child = psutil.Process(pid)
    eventually("it is frozen", lambda: child.status() == psutil.STATUS_STOPPED)
    everybody = home.everybody()
    home.process.kill()
    home.wait()
    _, alive = psutil.wait_procs(everybody, timeout=PATIENCE_SECONDS)
    assert not alive


def test_the_shell_that_waits_for_the_supervisors_end_may_be_killed(house):
    home = house({"name": "web"}, {"name": "worker", "mode": "deaf"})
    home.pid("worker")
    (shell,) = (each for each in home.everybody() if each.cmdline()[:1] == ["/bin/sh"])
    shell.kill()
    eventually("it is gone", lambda: not shell.is_running() or shell.status() == psutil.STATUS_ZOMBIE)
    eventually("web has started", lambda: home.started("web"))
    os.kill(home.pid("web"), signal.SIGKILL)
    eventually("web is back", lambda: len(home.started("web")) == 2)
    eventually("another waits", lambda: any(each.cmdline()[:1] == ["/bin/sh"] for each in home.everybody()))
    everybody = home.everybody()
    home.process.kill()
    home.wait()
    _, alive = psutil.wait_procs(everybody, timeout=PATIENCE_SECONDS)
    assert not alive


def test_a_crash_loop_stops_everything_with_a_sentence_and_status_1(house):
    home = house({"name": "broker"}, {"name": "web", "rank": 1, "mode": "crash", "own": 3})
    assert home.wait() == 1
    said = home.output()
    assert "web ended 4 times within 30 s (last: exit status 3), so everything is stopped" in said
    assert "Traceback" not in said
    assert ["broker", "stopped"] in [line[:2] for line in home.lines("log")]


def test_one_that_cannot_be_started_at_all_is_a_crash_loop_too(tmp_path):
    code = (
        "import sys; from pathlib import Path; from supervisor.processes.process_supervisor import *; "
        "from supervisor.processes.restart_plan import *; p = Path(sys.argv[1]); "
        "program = Program(ChildSpec('web', own=Budget(2, 30)), ('/no/such/thing',), {}, p); "
        "sys.exit(ProcessSupervisor([program], p / 's').run())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 1
    assert "could not be started" in done.stdout + done.stderr


def test_stops_go_in_reverse_order_one_rank_after_the_other(house):
    home = house(
        {"name": "broker", "mode": "slow"},
        {"name": "worker", "rank": 1, "mode": "slow"},
        {"name": "web", "rank": 2, "mode": "slow"},
    )
    eventually("all started", lambda: {line[0] for line in home.lines("log")} == {"broker", "worker", "web"})
    home.process.send_signal(signal.SIGTERM)
    assert home.wait() == 0
    stops = [(line[0], float(line[-1])) for line in home.lines("log") if line[1] == "stopped"]
    assert [name for name, _ in stops] == ["web", "worker", "broker"]
    assert stops[1][1] - stops[0][1] >= 0.3 and stops[2][1] - stops[1][1] >= 0.3


def test_a_second_signal_stops_at_once(house):
    home = house({"name": "broker"}, {"name": "worker", "rank": 1, "mode": "stubborn", "grace": 600.0})
    eventually("all started", lambda: len(home.lines("log")) == 2)
    everybody = home.everybody()
    home.process.send_signal(signal.SIGINT)
    eventually("it stops", lambda: home.state()["worker"]["state"] == "stopping")
    home.process.send_signal(signal.SIGINT)
    assert home.wait() == 1
    assert not any(process.is_running() for process in everybody)


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(house):
    home = house({"name": "worker", "mode": "stubborn", "grace": 0.5})
    eventually("it started", lambda: home.started("worker"))
    home.process.send_signal(signal.SIGTERM)
    assert home.wait() == 0


def test_no_zombie_is_left_behind(house):
    home = house({"name": "worker", "mode": "master"}, {"name": "web"})
    for n in range(3):
        os.kill(home.pid("worker"), signal.SIGKILL)
        eventually("it is noticed", lambda n=n: len(home.lines("events")) == n + 1)
        eventually("it is said", lambda n=n: home.state()["worker"]["restarts"] == n + 1)
    eventually("no zombie", lambda: all(p.status() != psutil.STATUS_ZOMBIE for p in home.everybody()))


def test_the_state_file_is_always_whole(house):
    home = house({"name": "web", "own": 1000})
    home.pid("web")
    until = time.monotonic() + 1
    while time.monotonic() < until:
        web = home.state()["web"]
        assert set(web) == {"name", "pid", "spawn_id", "state", "restarts", "since", "last_exit"}
        if web["pid"] and web["state"] == "ready":
            with contextlib.suppress(ProcessLookupError):
                os.kill(web["pid"], signal.SIGKILL)


def test_a_frozen_child_is_killed_and_started_again_and_one_that_can_not_beat_is_asked(house):
    """A stopped process obeys no other signal.  A part that beats, or that need not beat, is left alone."""
    running = house({"name": "frozen", "mode": "beating"}, {"name": "lives", "mode": "beating"},
                    {"name": "silent", "mode": "good"}, {"name": "asked", "mode": "asked"})  # fmt: skip
    answers = running.folder / "asked.answers"
    answers.touch()
    before = {name: running.pid(name) for name in ("frozen", "lives", "silent", "asked")}
    eventually("it has beaten", lambda: ["frozen", "beaten"] in [line[:2] for line in running.lines("log")])
    os.kill(before["frozen"], signal.SIGSTOP)
    eventually("it has gone", lambda: not psutil.pid_exists(before["frozen"]))
    eventually("it is started again", lambda: running.pid("frozen") != before["frozen"])
    assert running.state()["frozen"]["last_exit"]["text"] == "signal SIGKILL: it showed no life"
    assert running.pid("silent") == before["silent"]
    answers.unlink()
    eventually("it answers no more", lambda: not psutil.pid_exists(before["asked"]))


def test_a_new_program_takes_over_only_when_it_comes_up(house):
    running = house({"name": "a", "mode": "beating"}, {"name": "b", "mode": "beating"})
    before = {name: running.pid(name) for name in ("a", "b")}

    def renewal() -> dict[str, Any]:
        return json.loads((running.folder / "processes.json").read_text())["renewal"]

    good, broken = (program(running.folder, "a", mode=mode).argv for mode in ("beating", "crash"))
    ask(running.folder, {"a": broken, "b": program(running.folder, "b", mode="beating").argv})
    eventually("it has failed", lambda: renewal()["failed"])
    assert (
        renewal()["failed"] == "the new a ended before it was up (exit status 3)" and renewal()["done"] == []
    )
    assert {name: running.pid(name) for name in ("a", "b")} == before
    ask(running.folder, {"a": good})
    eventually("a is replaced", lambda: renewal()["done"] == ["a"])
    assert running.pid("a") != before["a"] and running.pid("b") == before["b"]
    of_a = [line[1] for line in running.lines("log") if line[0] == "a"]
    assert of_a == ["started", "beaten", "started", "beaten", "stopped"], (
        "the old one goes when the new one is up"
    )
    assert running.state()["a"]["restarts"] == 0 and running.state()["a"]["last_exit"] is None
    eventually(
        "the end of each is reported", lambda: [line[1] for line in running.lines("events")] == ["a", "a"]
    )


TELLS_ITS_PID_AND_WAITS = ["/bin/sh", "-c", "echo $$; read forever"]


@contextlib.contextmanager
def ignoring(*numbers: signal.Signals) -> Iterator[None]:
    """A process that is started in this block ignores these signals, as under `nohup`, until it says otherwise."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("ignored", [(), (signal.SIGINT, signal.SIGHUP)], ids=["", "under nohup"])
def test_a_forked_child_is_what_the_same_command_line_would_have_made(tmp_path, ignored):
    told = {}
    for how in ("started", "forked"):
        folder = tmp_path / how
        folder.mkdir()
        with ignoring(*ignored), running(folder, {"name": "web", "mode": "tells"}, how) as home:
            eventually("it started", lambda: home.started("web"))
            said = json.loads((folder / "web.told").read_text().replace(str(folder), "FOLDER"))
            assert said.pop("parent") == home.process.pid
            said["environ"] = [[name, value] for name, value in said["environ"] if name != "SPAWN"]
            told[how] = said
    assert told["forked"] == told["started"]
    assert told["forked"]["leads"] and told["forked"]["shown"].endswith("\0web\0tells\0")


def test_parts_are_started_while_no_fork_server_answers_and_forked_by_the_next_one(tmp_path):
    with running(tmp_path, {"name": "web", "own": 100}, "forked") as home:

        def starts_anew() -> None:
            starts = len(home.started("web"))
            os.kill(home.pid("web"), signal.SIGKILL)
            eventually("it started again", lambda: len(home.started("web")) == starts + 1)

        home.pid("web")
        first = home.fork_server()
        first.suspend()
        starts_anew()
        (second,) = eventually("another", lambda: [each for each in home.fork_servers() if each != first])
        second.kill()
        starts_anew()
        eventually(
            "a third one", lambda: [each for each in home.fork_servers() if each not in (first, second)]
        )
        starts_anew()
        home.process.send_signal(signal.SIGTERM)
        assert home.wait() == 0
    assert not first.is_running() and not second.is_running()


def test_a_new_program_is_forked_from_a_fork_server_of_its_own(tmp_path):
    with running(tmp_path, {"name": "a", "mode": "beating"}, "forked") as home:
        before = home.pid("a")

        old = home.fork_server()
        argv = program(home.folder, "a", mode="beating").argv
        ask(home.folder, {"a": argv, FORK_SERVER: FORK_SERVER_ARGV})
        eventually("a is replaced", lambda: home.pid("a") != before)
        eventually(
            "the old fork server is gone", lambda: home.fork_servers() and old not in home.fork_servers()
        )


@contextlib.contextmanager
def running(folder: Path, spec: dict[str, Any], how: str) -> Iterator[House]:
    home = House(folder, [spec], how)
    try:
        yield home
    finally:
        home.process.kill()
        home.process.wait()
        assert home.process.stdout is not None
        home.process.stdout.close()


def test_a_foreign_program_dies_with_its_starter():
    code = (
        "import subprocess, sys; from supervisor.processes.parent_death import dying_with_us; "
        "subprocess.Popen(dying_with_us(sys.argv[1:])).wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *TELLS_ITS_PID_AND_WAITS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        _, alive = psutil.wait_procs([child], timeout=PATIENCE_SECONDS)
    assert not alive, "and not because its stdin ended: that is still open here"


def test_a_program_whose_starter_is_dead_already_is_never_entered():
    argv = [str(word) for word in dying_with_us(["/bin/echo", "entered"])]
    argv[argv.index(str(os.getpid()))] = "1"
    done = subprocess.run(argv, capture_output=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_a_program_is_entered_with_the_signals_it_would_have_had():
    def ignored(argv: list[Any]) -> set[str]:
        told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return {line for line in told.splitlines() if line.startswith(("SigIgn", "SigBlk"))}

    argv = ["/bin/cat", "/proc/self/status"]
    assert ignored(dying_with_us(argv)) == ignored(argv)


def test_a_program_that_is_not_there_is_a_sentence_and_a_status():
    done = subprocess.run(dying_with_us(["/no/such/thing"]), capture_output=True, text=True)
    assert done.returncode == COULD_NOT_BE_STARTED
    assert done.stderr == "darkroom: /no/such/thing could not be started: No such file or directory\n"


def test_a_child_that_starts_after_its_parent_died_ends_at_once():
    code = "from supervisor.processes.parent_death import die_with_parent; die_with_parent(1); print('alive')"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL


def test_without_a_named_parent_the_present_parent_counts():
    code = "from supervisor.processes.parent_death import die_with_parent; die_with_parent(); print('alive')"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).stdout == b"alive\n"
