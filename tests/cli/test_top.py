"""`darkroom top` in a real terminal: it shows the system live, holds, quits, and leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from supervisor.cli.shown.history_lines import dead_lines, figure, history_lines, sparkline
from supervisor.core.claim import Claim
from supervisor.store.operators import week_history
from supervisor.store.tasks import user_actions
from tests.conftest import Store
from tests.support.command_line import PROGRAM, darkroom, environ_of
from tests.support.waiting import PATIENCE_SECONDS

COLUMNS, LINES = 100, 30
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, store: Store, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._theirs = theirs
        self.before = termios.tcgetattr(theirs)
        where = {"DARKROOM_DATABASE_URL": store.settings.database_url, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            # A run of the tests in a shell's background ignores SIGINT, and its children would too.
            ["env", "--default-signal=INT", *PROGRAM, *words],
            env=environ_of(store.settings.data_dir, **where),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self.shown = ""

    def until(self, words: str) -> None:
        """Read until the words were shown, since the last call."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in self.shown:
            assert time.monotonic() < deadline and self.process.poll() is None, (words, self.shown[-2000:])
            self._read(0.2)
        self.shown = self.shown.partition(words)[2]

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self.ours], [], [], seconds)
        if ready:
            self.shown += _CONTROL.sub("", os.read(self.ours, 65536).decode("utf-8", "replace"))

    def press(self, key: str) -> None:
        os.write(self.ours, key.encode())

    def ended(self) -> int:
        """The status, when it has ended by itself."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self._read(0.05)  # a full terminal would hold it
        return int(self.process.returncode)

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(60)
        for each in (self.ours, self._theirs):
            os.close(each)


@pytest.fixture
def terminal(store: Store) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_(*words: str) -> Terminal:
        opened.append(Terminal(store, *words))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def test_it_shows_what_changes_holds_and_quits(
    store: Store, terminal: Callable[..., Terminal], claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task("o-[bold]seen")  # a user's name is no markup
    top = terminal("top", "--every", "0.2")
    top.until("darkroom top")
    top.until("photography")
    top.until(claim.task_id)
    top.until("o-[bold]seen")
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    other = claimed_task("o-other")
    top.until(other.task_id)
    top.press("p")
    top.until("held")
    top.press("q")
    assert top.ended() == 0 and top.is_as_before()


def test_an_interrupt_leaves_the_terminal_as_it_was(store: Store, terminal: Callable[..., Terminal]) -> None:
    top = terminal("top", "--every", "0.2")
    top.until("darkroom top")
    top.process.send_signal(signal.SIGINT)
    assert top.ended() == 130 and top.is_as_before()


def test_without_a_terminal_it_says_everything_once_as_json(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    where = {"DARKROOM_DATABASE_URL": store.settings.database_url}
    said = darkroom(store.settings.data_dir, "top", "--json", **where)
    seen = json.loads(said.stdout)
    assert [each["task_id"] for each in seen["running"]] == [claim.task_id]
    assert "troubles" in seen


def test_into_a_pipe_it_writes_one_screen_and_ends(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claimed_task()
    said = darkroom(store.settings.data_dir, "top", DARKROOM_DATABASE_URL=store.settings.database_url)
    assert said.returncode == 0 and said.stdout.count("WORKER") == 1 and "\x1b" not in said.stdout


def test_the_week_and_dead_letters_are_lines(store: Store, failed_task: Callable[..., str]) -> None:
    where = {"DARKROOM_DATABASE_URL": store.settings.database_url}
    folder = store.settings.data_dir
    assert "nothing is known yet" in darkroom(folder, "history", **where).stdout
    task_id = failed_task()
    store.write(
        lambda tx: week_history.note(tx, str(tx.value(f"SELECT substr({tx.as_text(tx.now)}, 1, 16)")), "1 a")
    )
    told = darkroom(folder, "history", "--hours", "2", **where).stdout
    assert "waiting" in told and "up to 0" in told and "a point for a minute" in told
    assert len(json.loads(darkroom(folder, "history", "--json", **where).stdout)["points"]) == 1
    told = darkroom(folder, "dead", **where).stdout
    assert "invalid_input: This can't be made." in told and task_id in told
    seen = json.loads(darkroom(folder, "dead", "--json", **where).stdout)
    assert seen["tasks"][0]["count"] == 1
    (found,) = json.loads(darkroom(folder, "tasks", "--text", "CAN'T BE", "--json", **where).stdout)
    assert found["task_id"] == task_id
    assert json.loads(darkroom(folder, "tasks", "--text", "nothing like it", "--json", **where).stdout) == []


def test_figures_are_told_in_whole() -> None:
    assert [figure(each) for each in (0, 7, 5.03144, 1234567, 1e9 + 0.5, 0.00042, -3)] == [
        "0", "7", "5.03", "1,234,567", "1,000,000,000.5", "0.00042", "-3",
    ]  # fmt: skip


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 4, 8]) == " ▄█" and sparkline([]) == "" and sparkline([0, 0]) == "  "
    assert len(sparkline(range(1000), 60)) <= 60 and sparkline(range(1000), 60)[-1] == "█"
    assert next(iter(history_lines({"points": [], "deploys": []}))).startswith("nothing")
    assert "none" in " ".join(dead_lines({"days": 7, "tasks": [], "orders": [], "webhooks": []}))
