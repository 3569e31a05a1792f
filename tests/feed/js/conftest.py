"""A web without limits on orders, behind a proxy with the faults of networks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.houses.web_server import Web, running_web
from tests.support.servers.faulty_proxy import FaultyProxy


@pytest.fixture
async def web(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Web]:
    async with running_web(
        tmp_path, ping_seconds=0.5, limits={"open_tasks_per_user": 0, "running_tasks_per_user": 0},
        credits={"signup_grant": 100_000}, **getattr(request, "param", {}),
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
async def proxy(web: Web) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(web.url).running() as running:
        yield running
