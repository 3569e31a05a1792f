"""Alibaba Model Studio's asynchronous image tasks."""

from __future__ import annotations

import itertools
from typing import Any

from aiohttp import web

from tests.support.fakes.served import FakeService

IMAGE_PATHS = ("text2image", "image2image")


class DashScope(FakeService):
    """states: what each poll of a job says, the last for ever.  ending: what stands in the output of a finished one.

    refusal: (HTTP status, code) of the next submission.
    """

    def __init__(self) -> None:
        self.states = ["RUNNING", "SUCCEEDED"]
        self.ending: dict[str, Any] = {}
        self.refusal: tuple[int, str] | None = None
        self._polls: dict[str, itertools.count[int]] = {}
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        for group in IMAGE_PATHS:
            router.add_post(f"/api/v1/services/aigc/{group}/image-synthesis", self._submit)
        router.add_get("/api/v1/tasks/{id}", self._task)
        router.add_post("/api/v1/tasks/{id}/cancel", self._cancel)

    async def _submit(self, request: web.Request) -> web.Response:
        if not request.headers.get("Authorization", "").startswith("Bearer sk-"):
            return _error(401, "InvalidApiKey")
        if request.headers.get("X-DashScope-Async") != "enable":
            return _error(403, "AccessDenied")
        if self.refusal is not None:
            return _error(*self.refusal)
        task_id = f"task-{len(self._polls)}"
        self._polls[task_id] = itertools.count()
        return web.json_response(
            {"output": {"task_id": task_id, "task_status": "PENDING"}, "request_id": "r-1"}
        )

    async def _task(self, request: web.Request) -> web.Response:
        task_id = request.match_info["id"]
        if task_id not in self._polls:
            return web.json_response(
                {"output": {"task_id": task_id, "task_status": "UNKNOWN"}, "request_id": "r"}
            )
        state = self.states[min(next(self._polls[task_id]), len(self.states) - 1)]
        output: dict[str, Any] = {"task_id": task_id, "task_status": state}
        if state == "SUCCEEDED":
            output["results"] = [{"url": self.picture_url()}]
            output["task_metrics"] = {"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0}
        return web.json_response(
            {"output": output | (self.ending if state in ("SUCCEEDED", "FAILED") else {}), "request_id": "r"}
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        return (
            web.json_response({"request_id": "r"})
            if request.match_info["id"] in self._polls
            else _error(400, "UnsupportedOperation")
        )


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"code": code, "message": f"{code}!", "request_id": "r"}, status=status)
