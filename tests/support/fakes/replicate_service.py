"""Replicate's predictions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
from typing import Any

from aiohttp import web

from tests.support.fakes.served import FakeService

WEBHOOK_KEY = "whsec_" + base64.b64encode(b"a key of twenty-four b.").decode()


class Replicate(FakeService):
    """states: what each look at a prediction says, the last for ever.  more: fields of a finished one.

    refusal: (HTTP status, body, headers) of the next submission.
    """

    def __init__(self) -> None:
        self.states = ["processing", "succeeded"]
        self.more: dict[str, Any] = {}
        self.logs = "loading\n 35%|███▌      | 7/20 [00:01<00:02,  5.0it/s]\n"
        self.refusal: tuple[int, Any, dict[str, str]] | None = None
        self._looks: dict[str, itertools.count[int]] = {}
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/predictions", self._create)
        router.add_post("/v1/models/{owner}/{name}/predictions", self._create)
        router.add_get("/v1/predictions/{id}", self._get)
        router.add_post("/v1/predictions/{id}/cancel", self._cancel)

    def prediction(self, id_: str, state: str) -> dict[str, Any]:
        """As it stands in answers and in webhooks."""
        over = state in ("succeeded", "failed", "canceled", "aborted")
        document: dict[str, Any] = {
            "id": id_,
            "model": "us/them",
            "version": "0" * 64,
            "status": state,
            "input": {},
            "output": [self.picture_url()] if state == "succeeded" else None,
            "logs": "" if state == "starting" else self.logs,
            "error": None,
            "metrics": {"predict_time": 1.0} if over else {},
            "created_at": "2026-01-01T00:00:00Z",
            "started_at": "2026-01-01T00:00:00Z",
            "completed_at": "2026-01-01T00:00:02Z" if over else None,
            "urls": {
                "get": f"{self.url}/v1/predictions/{id_}",
                "cancel": f"{self.url}/v1/predictions/{id_}/cancel",
            },
        }
        return document | (self.more if over else {})

    def webhook(self, id_: str, state: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of a report on it, signed."""
        body = json.dumps(self.prediction(id_, state)).encode()
        headers = {"webhook-id": "msg-1", "webhook-timestamp": "1760000000"}
        key = base64.b64decode(WEBHOOK_KEY.removeprefix("whsec_"))
        signature = hmac.digest(key, b"msg-1.1760000000." + body, hashlib.sha256)
        return headers | {"webhook-signature": "v1," + base64.b64encode(signature).decode()}, body

    async def _create(self, request: web.Request) -> web.Response:
        if not request.headers.get("Authorization", "").startswith("Bearer r8-"):
            return web.json_response(
                {"title": "Unauthenticated", "detail": "No token", "status": 401}, status=401
            )
        if self.refusal is not None:
            status, body, headers = self.refusal
            return web.json_response(body, status=status, headers=headers)
        id_ = f"p{len(self._looks)}"
        self._looks[id_] = itertools.count()
        return web.json_response(self.prediction(id_, "starting"), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        if id_ not in self._looks:
            return web.json_response({"detail": "Not found.", "status": 404}, status=404)
        return web.json_response(
            self.prediction(id_, self.states[min(next(self._looks[id_]), len(self.states) - 1)])
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        if id_ not in self._looks:
            return web.json_response({"detail": "Not found.", "status": 404}, status=404)
        self.states = ["canceled"]
        return web.json_response(self.prediction(id_, "canceled"))
