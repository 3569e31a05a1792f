"""POST /v1/auth/wechat: a mini-program's login code becomes a token (WeChat's `jscode2session`).

A code is valid for one exchange and five minutes.  WeChat checks that, so nothing is stored here.  If the answer to an
exchange is lost, it is not repeated: the mini-program calls `wx.login()` again.  The app secret is part of the
request's address, so neither the address nor an error of the HTTP client, which may quote it, is ever logged or shown.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

from config.clients import WeChat
from supervisor.net.http_session import open_session
from supervisor.security.tokens import Identity, is_user_name, make_user_token
from web.access.authentication import unauthorized
from web.api.wechat_answers import Refusal, Refused, openid_of
from web.handling.context import CONTEXT, IDENTITY, address_of, context_of
from web.handling.request_bodies import read_json
from web.handling.responses import json_answer
from web.http.client_address import household
from web.http.problems import Problem, unavailable, unprocessable
from web.limits.token_bucket import RateLimit

log = logging.getLogger("darkroom.wechat")

PATH = "/v1/auth/wechat"
MOST_CODE_CHARACTERS = 256
MOST_LOGIN_BYTES = 4096
MOST_ANSWER_BYTES = 64 * 1024
CONNECTIONS = 32
MINUTE_SECONDS = 60


class WeChatLogin:
    """The client of WeChat's server, with a limit for each address."""

    def __init__(self, settings: WeChat, logins_per_minute: int, session: aiohttp.ClientSession) -> None:
        self._settings, self._session = settings, session
        self.limit = RateLimit(logins_per_minute)

    async def exchange(self, code: str) -> str:
        """The openid of a code.  Raises a Problem."""
        try:
            answer = openid_of(*await self._ask(code))
        except TimeoutError:
            log.warning("WeChat did not answer in %g s", self._settings.timeout_seconds)
            raise Problem(
                504, "WeChat did not answer in time; call wx.login() again.", kind="wechat_timeout"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.warning("WeChat can't be reached: %s", type(error).__name__)
            raise _bad_gateway("WeChat can't be reached just now.") from None
        if isinstance(answer, Refused):
            raise _problem_of(answer)
        if not is_user_name(answer):
            raise _bad_gateway("WeChat has answered with an openid that can't be one.")
        return answer

    async def _ask(self, code: str) -> tuple[int, bytes]:
        """Status and body.  A redirect is not followed: it would send the secret elsewhere."""
        secret = self._settings.app_secret
        assert secret is not None
        query = {
            "appid": self._settings.app_id,
            "secret": secret.get_secret_value(),
            "js_code": code,
            "grant_type": "authorization_code",
        }
        url = self._settings.url.rstrip("/") + "/sns/jscode2session"
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_seconds)
        async with self._session.get(url, params=query, timeout=timeout, allow_redirects=False) as response:
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > MOST_ANSWER_BYTES:
                    raise ValueError("the answer is too long")
            return response.status, bytes(body)


WECHAT = web.AppKey("WECHAT", WeChatLogin)


async def open_door(app: web.Application) -> AsyncIterator[None]:
    """Open while the application runs, if the settings name a mini-program."""
    settings = app[CONTEXT].settings
    if not settings.wechat.is_open:
        yield
        return
    async with open_session(connections=CONNECTIONS, cookie_jar=aiohttp.DummyCookieJar()) as session:
        app[WECHAT] = WeChatLogin(settings.wechat, settings.limits.logins_per_minute, session)
        yield


async def login(request: web.Request) -> web.Response:
    """200 with a token for the code's user.

    401 for an invalid, used or expired code, 403 for a user who is blocked, by WeChat or here, 429 for too many tries,
    502, 503 and 504 for faults of WeChat, 404 if no mini-program is set up.
    """
    door = request.app.get(WECHAT)
    if door is None:
        detail = "No mini-program is set up here: DARKROOM_WECHAT__APP_ID and DARKROOM_WECHAT__APP_SECRET."
        raise Problem(404, detail, kind="wechat_not_set_up")
    context = context_of(request)
    code = _code_of(await read_json(request, MOST_LOGIN_BYTES))
    wait = door.limit.take(household(address_of(request)), now=time.monotonic())
    if wait:
        raise _too_often("This address logs in too often; wait a little.", wait)
    user = await door.exchange(code)
    await context.ensure_account(user)
    request[IDENTITY] = Identity(user, "user")  # for the access log
    await context.check_token(request)  # a blocked user gets none
    seconds = context.settings.wechat.token_seconds
    token = make_user_token(context.secret, user, ttl_seconds=seconds)
    return json_answer({"token": token, "expires_in": int(seconds), "user_openid": user})


def _code_of(body: Any) -> str:
    if not isinstance(body, dict):
        raise unprocessable("", "The body must be an object with 'code'.")
    code = body.get("code")
    if not isinstance(code, str) or not 0 < len(code) <= MOST_CODE_CHARACTERS or not code.isascii():
        raise unprocessable(
            "/code", f"code must be what wx.login() gave: 1-{MOST_CODE_CHARACTERS} characters."
        )
    if unknown := sorted(body.keys() - {"code"}):
        raise unprocessable(f"/{unknown[0]}", "There is nothing to give but 'code'.")
    return code


def _problem_of(refused: Refused) -> Problem:
    match refused.why:
        case Refusal.BAD_CODE:
            return unauthorized("WeChat knows no such code, or it was used already; call wx.login() again.")
        case Refusal.BLOCKED:
            return Problem(403, "WeChat has blocked this user as a risk.", kind="wechat_blocked")
        case Refusal.TOO_OFTEN:
            return _too_often("WeChat says that this user logs in too often; wait a minute.", MINUTE_SECONDS)
        case Refusal.BUSY:
            return unavailable("WeChat is busy; call wx.login() again.", kind="wechat_busy")
        case Refusal.OUR_FAULT:
            log.error("WeChat refuses this server: errcode %s; check DARKROOM_WECHAT__…", refused.errcode)
            return _bad_gateway("WeChat refuses this server's app id or secret; its log says more.")
        case Refusal.NOT_AN_ANSWER:
            log.error("WeChat's answer can't be understood; check DARKROOM_WECHAT__URL")
            return _bad_gateway("WeChat's answer can't be understood.")


def _too_often(detail: str, seconds: float) -> Problem:
    retry_after = {"Retry-After": str(max(1, round(seconds + 0.5)))}
    return Problem(429, detail, kind="too_many_logins", headers=retry_after)


def _bad_gateway(detail: str) -> Problem:
    return Problem(502, detail, kind="wechat_unavailable")
