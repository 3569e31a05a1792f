"""Parts wait for a server that is away and log it once a minute; a caller with a limit waits no longer."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest

from config.settings import Settings
from supervisor.core.errors import BrokerAway, DatabaseBusy, Fault, NotReady, SettingFault, exit_status
from supervisor.database.outage_wait import until_it_works
from supervisor.schema.migrate import migrate
from supervisor.schema.sqlite import sqlite_upgrade


class Away:
    """Something that comes back at a time of a clock that only waiting moves."""

    def __init__(self, back_at: float, fault: Fault) -> None:
        self.now = 1000.0
        self._back_at, self._fault = self.now + back_at, fault
        self.said: list[tuple[float, str]] = []

    def ask(self) -> str:
        self.now += 3.0  # a connection takes its time to fail
        if self.now < self._back_at:
            raise self._fault
        return "there"

    def wait(self, wait_seconds: float | None = None) -> str:
        return until_it_works(
            self.ask, say=lambda why: self.said.append((self.now, why)), wait_seconds=wait_seconds,
            monotonic=lambda: self.now, sleep=self._sleep,
        )  # fmt: skip

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("fault", [DatabaseBusy("It is away."), BrokerAway("It is away.")])
def test_a_server_away_for_an_hour_is_waited_for_with_a_line_a_minute(fault: Fault) -> None:
    away = Away(3600, fault)
    assert away.wait() == "there"
    assert 58 <= len(away.said) <= 61 and all(why.startswith("It is away.") for _, why in away.said)
    times = [at for at, _ in away.said]
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("seconds", [0, 1, 30, 600])
def test_a_caller_with_a_limit_waits_no_longer(seconds: float) -> None:
    away = Away(10_000, DatabaseBusy("It is away."))
    with pytest.raises(DatabaseBusy):
        away.wait(seconds)
    assert away.now - 1000 <= seconds + 3, "one attempt may be under way when the time is over"


def test_a_refusal_is_not_waited_for() -> None:
    away = Away(10_000, SettingFault("The password is wrong."))
    with pytest.raises(SettingFault):
        away.wait()
    assert away.now == 1003 and away.said == []


def test_a_passing_fault_ends_a_part_with_1_and_wrong_settings_with_2() -> None:
    assert exit_status(SettingFault("")) == 2
    assert {exit_status(fault) for fault in (NotReady(""), DatabaseBusy(""), OSError())} == {1}


def test_a_sqlite_file_that_another_program_holds_is_busy_not_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_upgrade, "BUSY_SECONDS", 0.05)
    settings = Settings(data_dir=tmp_path)
    migrate(settings)
    other = sqlite3.connect(tmp_path / "darkroom.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy, match="locked"):
        migrate(settings)
    other.execute("ROLLBACK")
    other.close()
    assert migrate(settings) == []
