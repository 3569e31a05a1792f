"""An upgrade of a running system, part by part, without an interruption for users."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from supervisor.cli.up import renewable
from supervisor.core.errors import DatabaseBusy, NotReady, SettingFault
from supervisor.database.open_database import open_database
from supervisor.health.frozen_children import START_SECONDS
from supervisor.processes import rolling_restart, supervised, upgrade_request
from supervisor.processes.process_supervisor import FORK_SERVER
from supervisor.processes.restart_plan import (
    NOT_NOW,
    ChildSpec,
    Phase,
    decide,
    new_plan,
    note_exit,
    note_ready,
    note_replaced,
)
from supervisor.processes.rolling_restart import Renewal, Step
from tests.support.command_line import darkroom
from tests.support.houses.instant_house import INSTANT
from tests.support.houses.parts import DARKROOM
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

# --- the plan ---


def step(plan: Renewal, now: float = 0.0, **seen: Any) -> tuple[Renewal, Step]:
    return rolling_restart.decide(plan, now, **({"is_up": False, "ended": "", "old_is_gone": True} | seen))


def test_the_old_part_is_relieved_when_its_successor_is_up_and_the_next_comes_when_it_has_gone() -> None:
    plan, first = step(Renewal("1", ("worker-1", "web")))
    assert (first, plan.name) == (Step.START, "worker-1")
    assert step(plan)[1] is Step.WAIT
    plan, relieved = step(plan, is_up=True)
    assert relieved is Step.RELIEVE
    assert step(plan, old_is_gone=False) == (plan, Step.WAIT)
    plan, _ = step(plan)
    assert plan.done == ("worker-1",)
    plan, second = step(plan)
    assert (second, plan.name) == (Step.START, "web")


def test_a_successor_that_ends_or_is_not_up_in_time_leaves_all_the_others_as_they_are() -> None:
    plan, _ = step(Renewal("1", ("worker-1", "web")))
    ended, why = step(plan, ended="exit status 1")
    late, _ = step(plan, now=START_SECONDS + 1)
    assert why is Step.ABANDON and "ended before it was up (exit status 1)" in ended.failed
    assert "was not up within 120 s" in late.failed
    for over in (ended, late):
        assert over.is_over and over.done == () and step(over)[1] is Step.NONE


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=60))
def test_no_part_is_relieved_before_its_successor_is_up_nor_two_at_once(
    seen: list[tuple[bool, bool, bool]],
) -> None:
    plan, relieving = Renewal("1", ("a", "b", "c")), False
    for is_up, has_ended, old_is_gone in seen:
        before = plan
        plan, what = step(plan, is_up=is_up, ended="x" if has_ended else "", old_is_gone=old_is_gone)
        if what is Step.RELIEVE:
            assert is_up and not has_ended and before.name and not relieving
            relieving = True
        if what is Step.START:
            assert not before.name and not relieving
        if len(plan.done) > len(before.done):
            assert old_is_gone
            relieving = False


def test_a_part_that_can_not_work_now_stops_no_other() -> None:
    """Its program was replaced, and the database is not migrated yet."""

    def gave_up(status: int) -> str:
        plan, now = new_plan([ChildSpec("worker")]), 0.0
        while now < 120 and not plan.gave_up:
            plan, _ = decide(plan, now)
            plan = note_exit(plan, "worker", status, now + 0.1)
            now += 0.5
        return plan.gave_up

    assert gave_up(NOT_NOW) == ""
    assert "exit status 1" in gave_up(1), "as any other"


def test_only_a_part_of_a_running_up_says_that_it_can_not_work_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs that run parts know two statuses: 1, start it again, and 2, correct its settings first."""
    monkeypatch.delenv(supervised.VARIABLE, raising=False)
    faults = NotReady("not migrated"), SettingFault("newer"), DatabaseBusy("away")
    assert [supervised.exit_status_of_part(fault) for fault in faults] == [1, 2, 1]
    monkeypatch.setenv(supervised.VARIABLE, "1")
    assert [supervised.exit_status_of_part(fault) for fault in faults] == [NOT_NOW, 2, 1]


def test_a_replaced_part_has_not_died() -> None:
    plan, _ = decide(new_plan([ChildSpec("web")]), 0.0)
    plan = note_replaced(note_ready(plan, "web", 1.0), "web", 9.0)
    web = plan.child("web")
    assert (web.phase, web.restarts, web.since, web.deaths) == (Phase.READY, 0, 9.0, ())
    assert decide(plan, 10.0)[1] == ()


def test_a_renewal_is_taken_once_and_a_wrong_file_stops_no_part(tmp_path: Path) -> None:
    wanted = upgrade_request.ask(tmp_path, {"web": ("/opt/new/darkroom", "web")})
    taken = upgrade_request.take(tmp_path)
    assert taken is not None and (taken.id, taken.argv) == (wanted, {"web": ("/opt/new/darkroom", "web")})
    assert upgrade_request.take(tmp_path) is None
    for broken in (b"", b"{}", b"[]", b'{"id":1,"argv":7}', b"\xff", b'{"id":"1","argv":{"web":3}}'):
        (tmp_path / "upgrade.json").write_bytes(broken)
        assert upgrade_request.take(tmp_path) is None
        assert list(tmp_path.iterdir()) == []
    upgrade_request.ask(tmp_path, {})
    upgrade_request.take_back(tmp_path)
    assert upgrade_request.take(tmp_path) is None


def test_the_dispatcher_is_replaced_first_as_a_migration_may_have_ended_the_work_of_the_old_one(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, worker_processes=2)
    with contextlib.closing(open_database(settings)) as database:
        names = [name for name in renewable(settings, database) if name != FORK_SERVER]
    assert names == ["dispatcher", "worker-1", "worker-2", "scheduler", "web"]


# --- a whole house ---


class Customers:
    """One client orders all the time, and one watches; each on its own connections."""

    def __init__(self, system: RunningSystem) -> None:
        self.url = system.url
        self.order = json.dumps({"type": "instant", "params": {"images": [system.upload_sample()]}}).encode()
        self.accepted: list[str] = []
        self.accepted_at: list[float] = []
        self.seen: list[int] = []
        self.completed: set[str] = set()
        self.troubles: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._order, self._watch)]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _order(self) -> None:
        while not self._over.wait(0.1):
            request = urllib.request.Request(
                f"{self.url}/v1/tasks", self.order, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    self.accepted.append(json.load(answer)["task_id"])
                    self.accepted_at.append(time.monotonic())
            except OSError as error:
                self.troubles.append(f"an order: {error}")

    def _watch(self) -> None:
        last = ""
        while not self._over.is_set():
            request = urllib.request.Request(
                f"{self.url}/v1/works/feed", headers={"Last-Event-ID": last} if last else {}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as stream:
                    for line in stream:
                        if self._over.is_set():
                            return
                        last = self._read(line.decode().rstrip("\n"), last)
            except OSError as error:
                self.troubles.append(f"the feed: {error}")

    def _read(self, line: str, last: str) -> str:
        name, _, value = line.partition(": ")
        if name == "id":
            return value
        if name == "event" and value == "reset":
            self.troubles.append("the feed began anew")
        if name == "data":
            for each in json.loads(value).get("docChanges", ()):
                if each["queueType"] != "init":
                    self.seen.append(each["id"])
                    if each["doc"]["status"] == "completed":
                        self.completed.add(each["doc"]["task_id"])
        return last


def parts(system: RunningSystem) -> dict[str, dict[str, Any]]:
    state = json.loads((system.data_dir / "processes.json").read_bytes())
    return {part["name"]: part for part in state["processes"]}


def are_ready(system: RunningSystem, other_than: dict[str, int]) -> bool:
    now = parts(system)
    return all(now[name]["state"] == "ready" and now[name]["pid"] != pid for name, pid in other_than.items())


@contextlib.contextmanager
def migrated_by_a_newer_release(system: RunningSystem) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(system.data_dir / "darkroom.db", timeout=30)) as database:
        database.execute("INSERT INTO migration_history (name, applied) VALUES ('9999_later', '2099-01-01')")
        database.commit()
        yield
        database.execute("DELETE FROM migration_history WHERE name = '9999_later'")
        database.commit()


@pytest.mark.timeout(600)
def test_an_upgrade_replaces_part_after_part_and_no_order_and_no_change_is_lost(tmp_path: Any) -> None:
    with (
        running_system(tmp_path, log=tmp_path / "log", WORKER_PROCESSES="2", **INSTANT) as system,
        Customers(system) as customers,
    ):
        eventually("orders complete", lambda: len(customers.completed) >= 3)
        with migrated_by_a_newer_release(system):  # which has not replaced the parts yet
            old = {name: parts(system)[name]["pid"] for name in ("worker-1", "dispatcher", "web")}
            for pid in old.values():
                os.kill(pid, signal.SIGKILL)
            eventually("old parts that die go on", lambda: are_ready(system, old))
        customers.troubles.clear()  # a web that is killed takes its requests along
        before = {name: part["pid"] for name, part in parts(system).items()}
        began, known = time.monotonic(), len(customers.accepted)
        done = subprocess.run(
            [DARKROOM, "upgrade"], env=system.environ, capture_output=True, text=True, timeout=300
        )
        print(done.stdout, f"{time.monotonic() - began:.1f} s")
        assert done.returncode == 0, done.stderr
        during = customers.accepted_at[known:]
        print(
            "longest time without an accepted order:",
            max(b - a for a, b in itertools.pairwise(during)),
        )
        kept = before.pop("broker")
        assert are_ready(system, before) and parts(system)["broker"]["pid"] == kept
        assert [
            part["restarts"] for name, part in parts(system).items() if name in ("worker-2", "scheduler")
        ] == [0, 0]
        after = len(customers.accepted)
        assert after > known
        eventually("all complete", lambda: set(customers.accepted[:after]) <= customers.completed)
        assert customers.troubles == []
        assert customers.seen == list(range(customers.seen[0], customers.seen[0] + len(customers.seen)))


def test_without_a_running_system_upgrade_migrates_and_says_so(tmp_path: Any) -> None:
    done = darkroom(tmp_path, "upgrade")
    assert done.returncode == 0, done.stderr
    assert "the database is up to date\nno `darkroom up` runs" in done.stdout
