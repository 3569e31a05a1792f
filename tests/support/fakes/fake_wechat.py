"""WeChat's `jscode2session` as documented: always 200 and `text/plain`, also for errors; codes are single use."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

APP_ID = "wx0123456789abcdef"
APP_SECRET = "0123456789abcdef-the-app-secret"

ERRMSG = {
    -1: "system error",
    40013: "invalid appid",
    40029: "invalid code",
    40125: "invalid appsecret",
    40163: "code been used",
    40226: "code blocked",
    45011: "api minute-quota reach limit, must slower, retry next minute",
}


class FakeWeChat:
    """codes: what wx.login() gave, and whose it is.  answers: other answers, by code.  asked: every code that came."""

    def __init__(self) -> None:
        self.url = ""
        self.codes: dict[str, str] = {}
        self.answers: dict[str, web.Response] = {}
        self.asked: list[str] = []
        self.hangs = False
        self._used: set[str] = set()

    def fails(self, errcode: int) -> str:
        """A code that is answered with this error."""
        code = f"code-{errcode}"
        self.answers[code] = self.said({"errcode": errcode, "errmsg": f"{ERRMSG[errcode]}, rid: 66-77"})
        return code

    @staticmethod
    def said(value: Any, status: int = 200) -> web.Response:
        return web.Response(text=json.dumps(value), status=status, content_type="text/plain")

    async def answer(self, request: web.Request) -> web.Response:
        query = request.query
        code = query["js_code"]
        self.asked.append(code)
        if self.hangs:
            await asyncio.Event().wait()
        if code in self.answers:
            return self.answers[code]
        if query["appid"] != APP_ID:
            return self._error(40013)
        if query["secret"] != APP_SECRET:
            return self._error(40125)
        if query["grant_type"] != "authorization_code" or code not in self.codes:
            return self._error(40029)
        if code in self._used:
            return self._error(40163)
        self._used.add(code)
        openid = self.codes[code]
        return self.said({"session_key": "SECRETsessionKEY==", "openid": openid, "unionid": "u-1"})

    def _error(self, errcode: int) -> web.Response:
        return self.said({"errcode": errcode, "errmsg": ERRMSG[errcode]})


@contextlib.asynccontextmanager
async def fake_wechat() -> AsyncIterator[FakeWeChat]:
    """A real server."""
    fake = FakeWeChat()
    app = web.Application()
    app.router.add_get("/sns/jscode2session", fake.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
