"""A pytest plugin that lists the tests which `make test` leaves to `make test-system`, in one process or in several."""

from __future__ import annotations

from typing import Any

import pytest

_LEFT = "darkroom_left_to_system"  # every worker collects all tests, so any one's count is the whole

_left: list[pytest.Item] = []
_told_by_workers: list[int] = []


def pytest_deselected(items: list[pytest.Item]) -> None:
    _left.extend(item for item in items if item.get_closest_marker("system"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended."""
    _told_by_workers.append(getattr(node, "workeroutput", {}).get(_LEFT, 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.option.markexpr == "not system":
        left = max([len(_left), *_told_by_workers])
        terminalreporter.write_line(f"{left} tests left to `make test-system`")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """No system test at all is no failure."""
    workeroutput = getattr(session.config, "workeroutput", None)  # set in a worker of pytest-xdist alone
    if workeroutput is not None:
        workeroutput[_LEFT] = len(_left)
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr == "system":
        session.exitstatus = pytest.ExitCode.OK
