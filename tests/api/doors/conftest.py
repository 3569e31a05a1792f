"""One shop for all tests of a module, and a user of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.houses.door_shop import DoorShop, door_shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DoorShop]:
    """With the settings that the module names `SHOP`."""
    async with door_shop(
        tmp_path_factory.mktemp("shop"), credits={"signup_grant": 10}, **request.module.SHOP
    ) as running:
        yield running


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"o-{request.node.name[:80]}"
