"""Three roles see /v1/ops; each may do everything that the one before it may, and a refusal names what is needed."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from supervisor.security.roles import ROLES, may
from tests.support.houses.web_server import Web, bearer
from web.app.app import ADDRESSES, Address

OF_OPERATORS = [each for each in ADDRESSES if each.path.startswith("/v1/ops/")]
OF_ADMINS = re.compile(r"^/v1/ops/users/\{user\}/(block|grants|revoke)$")
NAMES = {
    "{task_id}": "t-1",
    "{worker_id}": "w-1",
    "{kind}": "type",
    "{name}": "photography",
    "{webhook_id}": "msg_t-1_1",
    "{user}": "o-7",
    "{bulk_id}": "b-1",
}
LADDER = ("viewer", "operator", "admin")


def needed(address: Address) -> str:
    """The lowest role that an address is for."""
    if OF_ADMINS.fullmatch(address.path):
        return "admin"
    is_dry = address.path == "/v1/ops/bulk/preview"  # it reads, by a body
    return "viewer" if address.method == "GET" or is_dry else "operator"


async def _refused(http: aiohttp.ClientSession, web: Web, address: Address, role: str) -> Any:
    """The refusal, or None if the caller was let in."""
    path = address.path
    for part, value in NAMES.items():
        path = path.replace(part, value)
    async with http.request(address.method, web.url + path, headers=bearer("o-1", role)) as answer:
        return await answer.json() if answer.status == 403 else None


@pytest.mark.parametrize("role", ROLES)
async def test_each_address_lets_in_its_role_and_those_above(
    web: Web, http: aiohttp.ClientSession, role: str
) -> None:
    assert len(OF_OPERATORS) >= 16
    for address in OF_OPERATORS:
        problem = await _refused(http, web, address, role)
        lowest = needed(address)
        is_let_in = role in LADDER and LADDER.index(role) >= LADDER.index(lowest)
        assert (problem is None) is is_let_in, (address, problem)
        if problem is not None:
            assert problem["type"] == "urn:darkroom:problem:forbidden"
            assert f"'{lowest}'" in problem["detail"] and problem["detail"].endswith(f"role '{role}'.")
    if role in ("user", "service", "viewer"):
        assert web.sql("SELECT count(*) FROM audit") == [(0,)]


async def test_roles_of_before_may_do_what_they_might(web: Web, http: aiohttp.ClientSession) -> None:
    """Grants and tokens for users were open to services and operators."""
    grant = {"amount": 5, "reference": "order-1"}
    for role, is_open in (
        ("user", False),
        ("viewer", False),
        ("service", True),
        ("operator", True),
        ("admin", True),
    ):
        headers = bearer("o-1", role)
        async with http.post(web.url + "/v1/credits/o-7/grants", json=grant, headers=headers) as answer:
            assert answer.status == (403 if not is_open else 201 if role == "service" else 200), role
        async with http.post(web.url + "/v1/tokens", json={"user": "o-7"}, headers=headers) as answer:
            assert (answer.status == 201) is is_open, role


async def test_a_viewer_is_bound_like_a_user(web: Web, http: aiohttp.ClientSession) -> None:
    order = {
        "type": "photography",
        "params": {"images": ["https://example.org/a.jpg"]},
        "priority": 5,
    }
    for role, status in (("viewer", 422), ("user", 422), ("operator", 202), ("admin", 202)):
        async with http.post(web.url + "/v1/tasks", json=order, headers=bearer("o-1", role)) as answer:
            assert answer.status == status, role


async def test_a_record_names_who_acted_in_which_role(web: Web, http: aiohttp.ClientSession) -> None:
    pause = {"kind": "type", "name": "photography", "reason": "a new model"}
    for user, role in (("ann", "operator"), ("bob", "admin")):
        async with http.post(web.url + "/v1/ops/pauses", json=pause, headers=bearer(user, role)) as answer:
            assert answer.status == 201
        headers = bearer(user, role)
        async with http.delete(web.url + "/v1/ops/pauses/type/photography", headers=headers) as answer:
            assert answer.status == 204
    async with http.get(web.url + "/v1/ops/overview", headers=bearer("eve", "viewer")) as answer:
        seen = (await answer.json())["audit"]
    assert [(each["operator"], each["role"], each["action"]) for each in reversed(seen)] == [
        ("ann", "operator", "pause"),
        ("ann", "operator", "resume"),
        ("bob", "admin", "pause"),
        ("bob", "admin", "resume"),
    ]


async def test_an_admin_grants_credits_and_revokes_tokens_on_record(
    web: Web, http: aiohttp.ClientSession
) -> None:
    headers, of = bearer("bob", "admin"), web.url + "/v1/ops/users/o-7"
    old = bearer("o-7")
    grant = {"amount": 7, "reference": "goodwill"}
    async with http.post(of + "/grants", json=grant, headers=headers) as answer:
        made = await answer.json()
        assert (answer.status, made["balance"]) == (201, 107)
    async with http.post(of + "/grants", json=grant, headers=headers) as answer:
        assert (answer.status, await answer.json()) == (200, made)
    async with http.post(of + "/grants", json=grant | {"amount": 8}, headers=headers) as answer:
        assert answer.status == 409
    for _ in range(2):  # without a reference each is a grant of its own
        async with http.post(of + "/grants", json={"amount": 1}, headers=headers) as answer:
            assert answer.status == 201
    async with http.post(of + "/revoke", headers=headers) as answer:
        assert answer.status == 200
    async with http.get(web.url + "/v1/tasks", headers=old) as answer:
        assert answer.status == 401
    rows = web.sql("SELECT action, kind, target, role FROM audit ORDER BY id")
    assert rows == [("grant", "user", "o-7", "admin")] * 3 + [("revoke", "user", "o-7", "admin")]


def test_the_ladder_holds_no_user_and_no_service() -> None:
    assert not any(may(role, "viewer") for role in ("user", "service"))
    assert [may("operator", step) for step in LADDER] == [True, True, False]  # type: ignore[arg-type]
