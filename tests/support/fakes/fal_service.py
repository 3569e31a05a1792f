"""fal's queue."""

from __future__ import annotations

import itertools
from typing import Any

from aiohttp import web

from tests.support.fakes.served import FakeService


class Fal(FakeService):
    """states: what each poll says, the last for ever.  result: (HTTP status, body) of the finished job's result.

    refusal: HTTP status of every submission that arrives, which is carried out or not.
    trouble: HTTP status of every poll.
    elsewhere: the address that a submission's answer names instead of the service's own.
    """

    def __init__(self) -> None:
        self.states = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
        self.result: tuple[int, Any] | None = None
        self.refusal = 0
        self.trouble = 0
        self.elsewhere = ""
        self._polls: dict[str, itertools.count[int]] = {}
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        jobs = "/{owner}/{app}/requests/{id}"
        router.add_get(jobs + "/status", self._status)
        router.add_put(jobs + "/cancel", self._cancel)
        router.add_get(jobs, self._response)
        router.add_post("/{owner}/{app}", self._submit)
        router.add_post("/{owner}/{app}/{rest:.*}", self._submit)

    async def _submit(self, request: web.Request) -> web.Response:
        if not request.headers.get("Authorization", "").startswith("Key "):
            return web.json_response({"detail": "Authentication is required"}, status=401)
        if self.refusal:
            return web.json_response({"detail": "an accident"}, status=self.refusal)
        request_id = f"req-{len(self._polls)}"
        self._polls[request_id] = itertools.count()
        # Without the model's sub-path, as the real ones.
        base = f"{self.elsewhere or self.url}/{request.match_info['owner']}/{request.match_info['app']}"
        job = f"{base}/requests/{request_id}"
        return web.json_response(
            {
                "status": "IN_QUEUE",
                "request_id": request_id,
                "response_url": job,
                "status_url": f"{job}/status",
                "cancel_url": f"{job}/cancel",
                "queue_position": 0,
            }
        )

    async def _status(self, request: web.Request) -> web.Response:
        if self.trouble:
            return web.json_response({"detail": "an accident"}, status=self.trouble)
        polls = self._polls.get(request.match_info["id"])
        if polls is None:
            return web.json_response({"detail": "Request not found"}, status=404)
        state = self.states[min(next(polls), len(self.states) - 1)]
        more: dict[str, Any] = {"IN_QUEUE": {"queue_position": 1}, "IN_PROGRESS": {"logs": []}}.get(
            state, {"logs": [], "metrics": {}}
        )
        return web.json_response(
            {"status": state, "request_id": request.match_info["id"], **more},
            status=200 if state == "COMPLETED" else 202,
        )

    async def _response(self, request: web.Request) -> web.Response:
        images = [
            {"url": self.picture_url(), "width": 40, "height": 30, "content_type": "image/png"},
            {"url": self.picture_url("blue.png"), "width": 40, "height": 30, "content_type": "image/png"},
        ]
        status, body = self.result or (200, {"images": images, "seed": 7})
        return web.json_response(body, status=status)

    async def _cancel(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self._polls:
            return web.json_response({"status": "NOT_FOUND"}, status=404)
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)
