"""ComfyUI with the observed behaviour of version 0.3.64: it runs one prompt at a time, at the test's command."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.support.fakes.served import FakeService


class ComfyUi(FakeService):
    """pending, running: prompt ids.  history: {id: entry}.  uploads: {name: bytes}.  interrupted: ids.

    refusal: the 400 of the next prompt.  node_errors: of nodes that are left out of a prompt that is taken.
    nodes: {class: what it requires}.  messages: what a listener hears at once.  A test moves prompts with `start`,
    `finish`, `fail` and `restart`.
    """

    def __init__(self) -> None:
        self.pending: list[str] = []
        self.running: list[str] = []
        self.graphs: dict[str, dict[str, Any]] = {}
        self.clients: dict[str, str] = {}
        self.history: dict[str, Any] = {}
        self.uploads: dict[str, bytes] = {}
        self.interrupted: list[str] = []
        self.listeners: list[str] = []
        self.refusal: dict[str, Any] | None = None
        self.nodes: dict[str, dict[str, Any]] = {"KSampler": {}}
        self.node_errors: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        router.add_post("/upload/image", self._upload)
        router.add_post("/prompt", self._prompt)
        router.add_get("/queue", self._queue)
        router.add_post("/queue", self._delete)
        router.add_post("/interrupt", self._interrupt)
        router.add_get("/history/{id}", self._history)
        router.add_get("/view", self._view)
        router.add_get("/object_info/{node}", self._node)
        router.add_get("/ws", self._ws)

    # --- what a test makes happen ---

    def start(self) -> str:
        """The first prompt of the queue runs."""
        self.running = [self.pending.pop(0)]
        return self.running[0]

    def finish(self) -> None:
        """What runs ends with two pictures and a preview."""
        images = [{"filename": name, "subfolder": "", "type": "output"} for name in ("red.png", "blue.png")]
        preview = {"filename": "preview.png", "subfolder": "", "type": "temp"}
        self._end("success", [], {"9": {"images": [preview, *images]}})

    def finish_with(self, outputs: Any) -> None:
        """What runs ends with this in its history."""
        self._end("success", [], outputs)

    def fail(self, event: str, **said: Any) -> None:
        """What runs ends with this message."""
        self._end("error", [["execution_start", {}], [event, said]], {})

    def restart(self) -> None:
        """The server was killed: it remembers nothing."""
        self.pending, self.running, self.history = [], [], {}

    def _end(self, status: str, messages: list[Any], outputs: Any) -> None:
        id_ = self.running.pop()
        said = {"status_str": status, "completed": status == "success", "messages": messages}
        self.history[id_] = {"prompt": [0, id_, self.graphs[id_]], "outputs": outputs, "status": said}

    # --- its doors ---

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image = form["image"]
        assert isinstance(image, web.FileField) and form["type"] == "input"
        name = f"{form['subfolder']}/{image.filename}"
        self.uploads[name] = image.file.read()
        return web.json_response({"name": image.filename, "subfolder": form["subfolder"], "type": "input"})

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.refusal is not None:
            return web.json_response(self.refusal, status=400)
        id_ = body["prompt_id"]
        self.pending.append(id_)  # told twice, it runs twice
        self.graphs[id_], self.clients[id_] = body["prompt"], body["client_id"]
        return web.json_response(
            {"prompt_id": id_, "number": len(self.graphs), "node_errors": self.node_errors}
        )

    async def _queue(self, request: web.Request) -> web.Response:
        def entries(ids: list[str]) -> list[Any]:
            return [[number, id_, self.graphs[id_], {}, []] for number, id_ in enumerate(ids)]

        return web.json_response(
            {"queue_running": entries(self.running), "queue_pending": entries(self.pending)}
        )

    async def _delete(self, request: web.Request) -> web.Response:
        gone = (await request.json())["delete"]
        self.pending = [id_ for id_ in self.pending if id_ not in gone]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        id_ = (await request.json()).get("prompt_id")
        self.interrupted.append(id_)
        if id_ in self.running:
            self.fail("execution_interrupted", prompt_id=id_)
        return web.Response()

    async def _history(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        return web.json_response({id_: self.history[id_]} if id_ in self.history else {})

    async def _view(self, request: web.Request) -> web.Response:
        found = self.pictures.get(request.query["filename"])
        return web.Response(status=404) if found is None else web.Response(body=found)

    async def _node(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        return web.json_response(
            {node: {"input": {"required": self.nodes[node]}, "name": node}} if node in self.nodes else {}
        )

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query["clientId"]
        self.listeners.append(client)
        await socket.send_str(json.dumps({"type": "status", "data": {"sid": client}}))
        if client in [self.clients[id_] for id_ in self.running]:
            for message in self.messages:
                await socket.send_str(json.dumps(message))
            await socket.send_bytes(b"\x00\x00\x00\x01 a preview")
        await asyncio.sleep(30)
        return socket
