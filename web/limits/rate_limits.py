"""Limits of requests a minute, for a user, and for an address without a valid token.

Not counted: requests from this host itself, the roles `service`, `operator` and `admin`, and paths outside `/v1/`
(pages, health, files with signed links).  Callbacks have their own token; one with an invalid token counts for its
address.  Every counted answer has the caller's state: `RateLimit-Policy` and `RateLimit` as in the IETF's draft
"RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from config.settings import Limits, Settings
from supervisor.security.roles import is_bound
from supervisor.store.limits.notices import Notice
from web.handling.context import CONTEXT, IDENTITY, address_of, context_of
from web.http.client_address import household
from web.http.demo_access import is_loopback_address
from web.http.problems import Problem
from web.limits.minute_counts import WINDOW_SECONDS, MinuteCounts, SharedCounts

DEFAULT = "default"
QUOTA_OF = {
    ("POST", "/v1/tasks"): "orders",
    ("POST", "/v1/tasks/{task_id}/retry"): "orders",
    ("POST", "/openai/v1/images/generations"): "orders",
    ("POST", "/openai/v1/images/edits"): "orders",
    ("POST", "/openai/v1/images/variations"): "orders",
    ("POST", "/replicate/v1/predictions"): "orders",
    ("POST", "/replicate/v1/models/{owner}/{model_name}/predictions"): "orders",
    ("POST", "/replicate/v1/files"): "uploads",
    ("POST", "/fal/queue/{app_path}"): "orders",
    ("POST", "/fal/run/{app_path}"): "orders",
    ("POST", "/fal/proxy"): "orders",  # or an upload that is to be begun
    ("POST", "/fal/storage/files/upload"): "uploads",
    ("POST", "/fal/storage/upload/initiate"): "uploads",
    ("POST", "/v1/images"): "uploads",
    ("POST", "/v1/files"): "uploads",
    ("POST", "/v1/feed-tickets"): "tickets",
}
WHAT = {DEFAULT: "requests", "orders": "orders", "uploads": "uploads", "tickets": "feed tickets"}


@dataclasses.dataclass(frozen=True)
class Standing:
    """A caller's state in one quota.  used: this request included.  resets_in_seconds: until the end of the minute."""

    name: str
    per_minute: int
    used: int
    resets_in_seconds: int

    @property
    def is_exceeded(self) -> bool:
        return self.used > self.per_minute

    @property
    def remaining(self) -> int:
        return max(0, self.per_minute - self.used)


def quotas_for(method: str, path: str, limits: Limits) -> dict[str, int]:
    """{quota: requests a minute} that a request counts in; path is its route's pattern.  A quota of 0 is off."""
    per_minute = {
        DEFAULT: limits.requests_per_minute,
        "orders": limits.orders_per_minute,
        "uploads": limits.uploads_per_minute,
        "tickets": limits.tickets_per_minute,
    }
    wanted = (DEFAULT, QUOTA_OF.get((method, path), DEFAULT))
    return {name: per_minute[name] for name in wanted if per_minute[name]}


def headers_of(standings: list[Standing]) -> dict[str, str]:
    """The two headers; nothing for a request that no quota counts."""
    if not standings:
        return {}
    policy = (f'"{each.name}";q={each.per_minute};w={WINDOW_SECONDS}' for each in standings)
    now = (f'"{each.name}";r={each.remaining};t={each.resets_in_seconds}' for each in standings)
    return {"RateLimit-Policy": ", ".join(policy), "RateLimit": ", ".join(now)}


def refusal(standing: Standing) -> Problem:
    """429 for a quota that is used up."""
    wait = standing.resets_in_seconds
    detail = (
        f"At most {standing.per_minute:,} {WHAT[standing.name]} a minute are accepted from one user; "
        f"try again in {wait} s."
    )
    return Problem(429, detail, kind="too_many_requests", headers={"Retry-After": str(wait)})


COUNTS = web.AppKey("COUNTS", MinuteCounts)
STANDINGS = web.RequestKey("STANDINGS", list[Standing])


def counts_for(settings: Settings) -> MinuteCounts:
    """Shared if there may be several web processes, that is, if the broker is not embedded."""
    return SharedCounts(settings.broker_url) if settings.broker_url else MinuteCounts()


async def keep_counts(app: web.Application) -> AsyncIterator[None]:
    """For as long as the application runs."""
    app[COUNTS] = counts_for(app[CONTEXT].settings)
    yield
    await app[COUNTS].close()


@web.middleware
async def obey_quotas(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass on requests of a known caller within the quotas; 429 for the others."""
    identity = request.get(IDENTITY)
    if identity is not None and is_bound(identity.role):
        try:
            await count_request(request, f"user:{identity.user}")
        except Problem:
            context_of(request).notices.note(Notice.REQUESTS, identity.user)
            raise
    return await handler(request)


async def count_stranger(request: web.Request) -> None:
    """Count a request without a valid token for its address.  Raises a Problem, 429, for one too many."""
    await count_request(request, f"address:{household(address_of(request))}")


async def count_request(request: web.Request, who: str) -> None:
    """Count this request for `who`.  Raises a Problem, 429, if a quota is used up."""
    address = address_of(request)
    resource = request.match_info.route.resource
    if resource is None or not address or is_loopback_address(address):
        return
    wanted = quotas_for(request.method, resource.canonical, context_of(request).settings.limits)
    if not wanted:
        return
    window, into = divmod(time.time(), WINDOW_SECONDS)
    names = [f"{name}:{who}" for name in wanted]
    used = await request.app[COUNTS].add(names, window=int(window))
    resets = math.ceil(WINDOW_SECONDS - into)
    standings = [
        Standing(name, most, n, resets) for (name, most), n in zip(wanted.items(), used, strict=True)
    ]
    request[STANDINGS] = standings
    exceeded = next((each for each in standings if each.is_exceeded), None)
    if exceeded is not None:
        raise refusal(exceeded)


async def used_this_minute(request: web.Request, user: str) -> list[dict[str, str | int]]:
    """[{name, used, most}] of a user's quotas, without counting."""
    limits = context_of(request).settings.limits
    quotas = quotas_for("", "", limits) | {
        name: most for (method, path) in QUOTA_OF for name, most in quotas_for(method, path, limits).items()
    }
    counted = await request.app[COUNTS].look(
        [f"{name}:user:{user}" for name in quotas], window=int(time.time() // WINDOW_SECONDS)
    )
    return [
        {"name": f"{WHAT[name].replace(' ', '_')}_per_minute", "used": used, "most": most}
        for (name, most), used in zip(quotas.items(), counted, strict=True)
    ]


async def tell_standing(request: web.Request, response: web.StreamResponse) -> None:
    """Before any answer's head is sent, also of a refusal: add the remaining quota."""
    response.headers.update(headers_of(request.get(STANDINGS, [])))
