"""Which processes are alive, which are silent, and pauses that are no silence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.dispatcher.dispatcher_beat import Pulse, Waited
from supervisor.database.interface.database import Database
from supervisor.health.frozen_children import LOOK_SECONDS, SILENT_SECONDS, START_SECONDS, FrozenChildren
from supervisor.processes import beat_check
from supervisor.processes.heartbeat_pipe import (
    BEAT_SECONDS,
    FILE_VARIABLE,
    VARIABLE,
    Beats,
    beat_from_loop,
    beat_from_thread,
)
from tests.support.waiting import eventually


class Watch:
    """A supervisor that looks once a second."""

    def __init__(self) -> None:
        self.signs, self.now = FrozenChildren(), 100.0

    def looks(self, seconds: float, **beats: int) -> list[str]:
        """The parts that were silent at any check within a number of seconds."""
        found: list[str] = []
        until = self.now + seconds
        while self.now < until:
            found += self.signs.silent(beats, self.now)
            self.now += LOOK_SECONDS
        return found


# --- what the supervisor makes of it ---


def test_one_that_has_beaten_and_is_silent_is_found_after_15_seconds_and_not_before() -> None:
    watch = Watch()
    assert watch.looks(SILENT_SECONDS, a=1, b=1) == []
    assert set(watch.looks(2 * LOOK_SECONDS, a=1, b=2)) == {"a"}


def test_a_long_start_is_no_silence_until_two_minutes() -> None:
    watch = Watch()
    assert watch.looks(START_SECONDS, a=0) == []
    assert set(watch.looks(2 * LOOK_SECONDS, a=0)) == {"a"}


@pytest.mark.parametrize("beats", [0, 7])
def test_a_gap_of_the_supervisors_own_counts_from_zero(beats: int) -> None:
    """Everything was stopped, or the laptop slept: no part is killed for it."""
    watch, limit = Watch(), SILENT_SECONDS if beats else START_SECONDS
    watch.looks(limit - 1, a=beats)
    watch.now += 3600
    assert watch.looks(limit, a=beats) == []
    assert set(watch.looks(2 * LOOK_SECONDS, a=beats)) == {"a"}


@given(st.lists(st.tuples(st.floats(0.1, 30), st.booleans()), max_size=80))
def test_no_part_is_killed_within_15_seconds_of_a_beat_or_a_gap(looks: list[tuple[float, bool]]) -> None:
    signs, now, beats, safe_until = FrozenChildren(), 0.0, 1, SILENT_SECONDS
    signs.silent({"a": beats}, now)
    for after, has_beaten in looks:
        now, beats = now + after, beats + has_beaten
        if has_beaten or after > SILENT_SECONDS / 3:
            safe_until = now + SILENT_SECONDS
        assert not (signs.silent({"a": beats}, now) and now < safe_until)


# --- what a part shows ---


@pytest.fixture
def heard() -> Iterator[tuple[dict[str, str], int]]:
    """The environment of a part, and the end of the pipe that receives its beats."""
    ours, its = os.pipe()
    os.set_blocking(ours, False)
    yield {VARIABLE: str(its)}, ours
    os.close(ours)
    with contextlib.suppress(OSError):
        os.close(its)


def count(ours: int) -> int:
    try:
        return len(os.read(ours, 4096))
    except BlockingIOError:
        return 0


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.processes.heartbeat_pipe.BEAT_SECONDS", 0.01)


def test_a_held_loop_is_silent_and_busy_threads_are_not(
    heard: tuple[dict[str, str], int], quickly: None
) -> None:
    environ, ours = heard
    loop = asyncio.new_event_loop()
    runs = threading.Thread(target=loop.run_forever)
    runs.start()
    blocked = threading.Event()
    busy = [threading.Thread(target=blocked.wait) for _ in range(4)]  # as dramatiq's are in blocking tasks
    for thread in busy:
        thread.start()
    beat_from_loop(loop, Beats(environ))
    eventually("it beats", lambda: count(ours))
    eventually("it beats on", lambda: count(ours))
    held, let_go = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (held.set(), let_go.wait(30)))
    assert held.wait(30)
    count(ours)
    time.sleep(0.2)  # the silence itself, twenty beats long
    assert count(ours) == 0
    let_go.set()
    eventually("it beats again", lambda: count(ours))
    blocked.set()
    loop.call_soon_threadsafe(loop.stop)
    for thread in (runs, *busy):
        thread.join(30)
    loop.close()


def test_a_process_without_a_loop_of_ours_beats_from_a_thread(
    heard: tuple[dict[str, str], int], quickly: None
) -> None:
    environ, ours = heard
    beat_from_thread(Beats(environ))
    eventually("it beats", lambda: count(ours))


def test_a_supervisor_that_stops_reading_blocks_no_part(heard: tuple[dict[str, str], int]) -> None:
    environ, _ = heard
    beats = Beats(environ)
    for _ in range(100_000):  # more than a pipe holds
        beats.beat()


def test_a_part_never_writes_into_a_descriptor_that_is_no_pipe(tmp_path: Path) -> None:
    """The variable may outlive its pipe, and the number be given to another file."""
    with (tmp_path / "file").open("wb") as file:
        for number in (str(file.fileno()), "987654", "", "x"):
            beats = Beats({VARIABLE: number})
            beats.beat()
            assert not beats.are_wanted
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_notified_by_its_own_protocol(tmp_path: Path, is_abstract: bool) -> None:
    name = f"@darkroom-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if is_abstract else name)
        manager.settimeout(30)
        Beats({"NOTIFY_SOCKET": name}).beat()  # no supervisor watches
        Beats({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"}).beat()
        assert manager.recv(100) == b"WATCHDOG=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
    Beats({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1"}).beat()  # it has gone


def test_the_health_check_of_a_container_tells_a_silent_part_from_one_that_beats(tmp_path: Path) -> None:
    path = tmp_path / "beat"
    assert "not beaten yet" in beat_check.trouble(str(path), 1000, 60)
    Beats({FILE_VARIABLE: str(path)}).beat()
    beaten = int(path.read_text())
    assert beat_check.trouble(str(path), beaten + 60, 60) == ""
    assert beat_check.trouble(str(path), beaten + 61, 60) == "The part has been silent for 61 s."
    assert beat_check.trouble(str(path), beaten - 500, 60) == "The last beat is of another boot."
    path.write_text("not a time")
    assert "can't be read" in beat_check.trouble(str(path), 1000, 60)
    assert FILE_VARIABLE in beat_check.trouble("", 1000, 60)


@pytest.mark.parametrize(("beaten_ago", "status"), [(0, 0), (1000, 1), (None, 1)])
def test_the_health_check_ends_with_a_status(tmp_path: Path, beaten_ago: int | None, status: int) -> None:
    path = tmp_path / "beat"
    if beaten_ago is not None:
        path.write_text(str(int(time.monotonic()) - beaten_ago))
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.processes.beat_check", "500"],
        env={**os.environ, FILE_VARIABLE: str(path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status and done.stderr.startswith("beat_check: ") == bool(status)


def test_the_health_check_names_the_variable_that_the_parts_read() -> None:
    assert beat_check.FILE_VARIABLE == FILE_VARIABLE


def test_a_file_for_beats_that_can_not_be_made_ends_no_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beats = Beats({FILE_VARIABLE: str(tmp_path / "absent" / "beat")})
    beats.beat()
    assert not beats.are_wanted and "can't be written: No such file or directory" in caplog.text


class CountedBeats(Beats):
    def __init__(self) -> None:
        super().__init__({})
        self.count = 0

    def beat(self) -> None:
        self.count += 1


def test_a_running_dispatcher_loop_beats_and_a_blocked_one_does_not() -> None:
    beats, now = CountedBeats(), 1000.0
    pulse = Pulse(beats, clock=lambda: now)
    for _ in range(3):
        pulse.turn()
        pulse.look()
        now += BEAT_SECONDS
    assert beats.count == 3
    pulse.look()
    assert beats.count == 3, "it has not turned since"


def test_a_busy_dispatcher_loop_does_not_beat_at_each_turn() -> None:
    beats = CountedBeats()
    pulse = Pulse(beats, clock=lambda: 1000.0)
    for _ in range(1000):
        pulse.turn()
    assert beats.count == 1


@pytest.mark.parametrize("way", ["read", "glance", "write_now"])
def test_a_dispatcher_that_waits_for_the_database_is_not_silent(database: Database, way: str) -> None:
    beats = CountedBeats()
    pulse = Pulse(beats)

    def hangs(_: object) -> None:
        for _ in range(10):
            pulse.look()

    getattr(Waited(database, pulse), way)(hangs)
    assert beats.count == 11, "the end of the wait is a turn"
    pulse.look()
    assert beats.count == 11, "afterwards it has to turn"
