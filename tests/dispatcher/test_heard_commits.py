"""What the dispatcher does about the event of a commit, which comes before the commit is visible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from actors.dispatcher.dispatcher import SLOW_DISK_SECONDS, Dispatcher
from supervisor.database.interface.wakeups import Heard, Wakeups
from tests.conftest import Store

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'photography', '{}')"
pytestmark = pytest.mark.sqlite_only


class Events(Wakeups):
    """versions: what is visible, at one look after the other; the last one stays.  at_change: called when it moves."""

    safety_seconds = 1.0
    look_again_seconds = (0.0,) * 3
    is_listening = True

    def __init__(self) -> None:
        super().__init__()
        self.versions = [1]
        self.looks = 0
        self.at_change: Any = None

    def hear(self, timeout_seconds: float) -> Heard | None:
        return None

    def version(self) -> int:
        self.looks += 1
        if len(self.versions) == 1:
            return self.versions[0]
        before = self.versions.pop(0)
        if before != self.versions[0] and self.at_change is not None:
            self.at_change()
        return before


@pytest.fixture
def events() -> Iterator[Events]:
    made = Events()
    yield made
    made.close()


@pytest.fixture
def dispatcher(store: Store, events: Events) -> Iterator[Dispatcher]:
    made = Dispatcher(store.settings, store.database, cast(Any, None), events, cast(Any, None))
    made._wake = made._wake_counter()
    yield made
    made.sender.close()


def test_a_commit_of_others_is_looked_for_only_until_it_is_visible(
    dispatcher: Dispatcher, events: Events
) -> None:
    events.versions = [1, 1, 2]
    assert not dispatcher._something_happened()
    assert events.looks == 3


def test_a_commit_that_brings_work_is_found_when_it_becomes_visible(
    dispatcher: Dispatcher, events: Events, store: Store
) -> None:
    events.versions, events.at_change = [1, 1, 2], lambda: store.write(lambda tx: tx.execute(INSERT))
    assert dispatcher._something_happened()


def test_an_event_without_a_commit_is_given_up_after_a_slow_disks_time(
    dispatcher: Dispatcher, events: Events
) -> None:
    assert not dispatcher._something_happened()
    assert events.looks == 1 + len(events.look_again_seconds) + len(SLOW_DISK_SECONDS) + 1
