"""POST /v1/tokens: a service requests tokens of its users; they are revoked with its own token."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import jwt
import pytest

from supervisor.security.tokens import (
    MOST_ASKERS,
    make_feed_ticket,
    make_user_token,
    read_feed_ticket,
    read_user_token,
)
from supervisor.store.limits import revocations
from tests.support.houses.web_server import SECRET, Web, bearer

TOKENS = "/v1/tokens"


async def _asked(
    http: aiohttp.ClientSession, web: Web, headers: dict[str, str], method: str, path: str, **more: Any
) -> tuple[int, Any]:
    async with http.request(method, web.url + path, headers=headers, **more) as answer:
        return answer.status, await answer.json()


def _of(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_service_is_given_a_token_of_its_user_for_the_time_it_asks(
    web: Web, http: aiohttp.ClientSession
) -> None:
    service = bearer("shop", "service")
    for body, seconds in (({"user": "o-7", "ttl_seconds": 86_400}, 86_400), ({"user": "o-7"}, 3600)):
        status, told = await _asked(http, web, service, "POST", TOKENS, json=body)
        assert status == 201 and told.keys() == {"token", "expires_in"} and told["expires_in"] == seconds
        claims = jwt.decode(told["token"], SECRET, algorithms=["HS256"])
        assert (claims["sub"], claims["role"]) == ("o-7", "user")
        assert abs(claims["exp"] - claims["iat"] - seconds) <= 1
        assert (await _asked(http, web, _of(told["token"]), "GET", "/v1/credits"))[0] == 200
        as_another = _of(told["token"]) | {"X-User": "o-8"}
        assert (await _asked(http, web, as_another, "GET", "/v1/credits"))[0] == 403
        assert (await _asked(http, web, _of(told["token"]), "POST", TOKENS, json=body))[0] == 403


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/user"]),
        ([], ["", "/user"]),
        ({"user": "a\nb"}, ["/user"]),
        ({"user": "x" * 129}, ["/user"]),
        ({"user": "o-1", "ttl_seconds": 0}, ["/ttl_seconds"]),
        ({"user": "o-1", "ttl_seconds": 86_401}, ["/ttl_seconds"]),
        ({"user": "o-1", "ttl_seconds": True}, ["/ttl_seconds"]),
        ({"user": "o-1", "ttl_seconds": 1.0}, ["/ttl_seconds"]),
        ({"user": "o-1", "ttl_seconds": None}, ["/ttl_seconds"]),
        ({"user": "o-1", "role": "operator"}, ["/role"]),
    ],
)
async def test_a_wrong_request_is_refused_with_the_place_of_the_mistake(
    web: Web, http: aiohttp.ClientSession, body: Any, pointers: list[str]
) -> None:
    status, problem = await _asked(http, web, bearer("shop", "service"), "POST", TOKENS, json=body)
    assert status == 422 and [each["pointer"] for each in problem["errors"]] == pointers


async def test_a_users_token_ends_with_the_services_that_asked_for_it(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """Else a thief of a service's token could use it for a day after it was revoked."""
    _, told = await _asked(http, web, bearer("shop", "service"), "POST", TOKENS, json={"user": "o-7"})
    _, ticket = await _asked(http, web, _of(told["token"]), "POST", "/v1/feed-tickets")
    now = time.time() + 0.001
    await asyncio.to_thread(web.database.write_now, lambda tx: revocations.revoke_user(tx, "shop", now))
    assert (await _asked(http, web, _of(told["token"]), "GET", "/v1/credits"))[0] == 401
    async with http.get(web.url + "/v1/works/feed", params={"ticket": ticket["ticket"]}) as answer:
        assert answer.status == 401, "nor does a ticket stay that the user's token has asked for"
    assert (await _asked(http, web, bearer("o-7"), "GET", "/v1/credits"))[0] == 200


def test_a_token_names_its_whole_chain_of_issuers() -> None:
    service = read_user_token(SECRET, make_user_token(SECRET, "shop", "service", ttl_seconds=60))
    user = read_user_token(SECRET, make_user_token(SECRET, "o-7", ttl_seconds=60, asked_by=service.proofs))
    ticket = read_feed_ticket(SECRET, make_feed_ticket(SECRET, "o-7", asked_by=user.proofs))
    assert user.proofs[1:] == service.proofs and ticket.proofs[1:] == user.proofs
    assert len(ticket.proofs) <= MOST_ASKERS + 1
