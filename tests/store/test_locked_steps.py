"""Steps that met a locked row: those of one row wait together, and no other row's step waits for them."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import threading
from collections.abc import Iterator

import pytest

from supervisor.core.errors import RowsLocked
from supervisor.database.interface.database import Transaction
from supervisor.database.postgres import locked_steps, transactions
from supervisor.database.postgres.locked_steps import LockedSteps
from tests.conftest import DEADLINE_SECONDS, Store, wait_until
from tests.support.databases import plain_connection

MANY = 300


def _locked(row: str) -> RowsLocked:
    error = RowsLocked("It is locked.")
    error.row = row
    return error


class Rows:
    """Rows that others have locked, and the steps that need them: (row, number)."""

    def __init__(self, *locked: str) -> None:
        self.locked = set(locked)
        self.tries: collections.Counter[str] = collections.Counter()
        self.done: list[tuple[str, int]] = []
        self.given_up: list[tuple[str, int]] = []
        self.goes_on = threading.Event()
        self.steps: LockedSteps[tuple[str, int]] = LockedSteps(
            self._attempt, lambda step, _: self.given_up.append(step)
        )

    def _attempt(self, step: tuple[str, int], wait_seconds: float) -> RowsLocked | None:
        assert self.goes_on.wait(DEADLINE_SECONDS)
        row, _ = step
        self.tries[row] += 1
        if row in self.locked:
            return _locked(row)
        self.done.append(step)
        return None

    def set_aside(self, row: str, number: int) -> None:
        self.steps.set_aside((row, number), _locked(row))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    monkeypatch.setattr(transactions, "LOCKED_SECONDS", 600.0)
    made = Rows("busy", "other")
    yield made
    made.locked.clear()
    made.goes_on.set()
    wait_until(lambda: made.steps._number == 0, "all have ended")
    made.steps.close()


def test_many_steps_of_one_row_are_tried_once_in_a_turn(rows: Rows) -> None:
    for n in range(MANY):
        rows.set_aside("busy", n)
    rows.set_aside("other", 0)
    rows.goes_on.set()
    wait_until(lambda: rows.tries["other"] >= 5, "the other row has had five turns")
    assert rows.tries["busy"] <= rows.tries["other"] + 2


def test_all_steps_of_a_row_go_on_in_their_order_once_it_is_free(rows: Rows) -> None:
    for n in range(MANY):
        rows.set_aside("busy", n)
    rows.goes_on.set()
    wait_until(lambda: rows.tries["busy"] >= 3, "they wait")
    rows.locked.discard("busy")
    wait_until(lambda: len(rows.done) == MANY, "all are done")
    assert rows.tries["busy"] < 2 * MANY, "none was tried again and again"


def test_a_step_that_waited_too_long_is_given_up_though_it_was_never_the_first(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.set_aside("busy", 0)
    monkeypatch.setattr(transactions, "LOCKED_SECONDS", 0.0)
    for n in range(1, 4):
        rows.set_aside("busy", n)
    rows.goes_on.set()
    wait_until(lambda: len(rows.given_up) == 3, "they are given up")
    assert ("busy", 0) not in rows.given_up


def test_writers_wait_the_shorter_the_more_steps_are_set_aside(rows: Rows) -> None:
    assert rows.steps.wait_seconds == locked_steps.FIRST_SECONDS
    rows.set_aside("busy", 0)
    assert rows.steps.wait_seconds == locked_steps.HURRIED_SECONDS
    for n in range(1, MANY):
        rows.set_aside("busy", n)
    assert rows.steps.wait_seconds == locked_steps.LEAST_HURRIED_SECONDS


@pytest.mark.postgresql_only
def test_the_server_names_the_locked_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("o-1", "o-2"):
        store.write(lambda tx, user=user: tx.execute("INSERT INTO account (user_openid) VALUES (:u)", u=user))
    met: list[str] = []
    set_aside = LockedSteps.set_aside

    def noted(self: LockedSteps[object], step: object, locked: RowsLocked) -> None:
        met.append(locked.row)
        set_aside(self, step, locked)

    monkeypatch.setattr(LockedSteps, "set_aside", noted)

    def lock(tx: Transaction, user: str) -> None:
        tx.one(f"SELECT 1 FROM account WHERE user_openid = :u {tx.for_update}", u=user)

    with contextlib.closing(plain_connection(store.settings)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM account FOR UPDATE")
        waiting: list[concurrent.futures.Future[None]] = []
        for user in ("o-1", "o-1", "o-2"):
            waiting.append(store.database.write(lambda tx, user=user: lock(tx, user)))
            wait_until(lambda: len(met) == len(waiting), "it is set aside")
        other.execute("ROLLBACK")
    for each in waiting:
        each.result(DEADLINE_SECONDS)
    named = [row for row in met if row]
    assert named and all("account" in row for row in named), met
