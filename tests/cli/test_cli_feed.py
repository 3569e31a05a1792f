"""The command line's reader of the feed continues after short faults and always pauses before a retry."""

from __future__ import annotations

import itertools
import time

from aiohttp import web

from supervisor.cli.api_client import Api

OPENING = b'retry: 0\n\nid: e-1\nevent: init\ndata: {"id": 1, "docChanges": [], "docs": []}\n\n'
NEXT = b'retry: 0\n\nid: e-2\nevent: change\ndata: {"id": 2, "docChanges": []}\n\n'
AWAY = b"retry: 0\n\nevent: away\ndata: {}\n\n"


async def test_a_feed_goes_on_over_a_restart_behind_a_proxy_with_a_pause_each_time() -> None:
    answers = [(200, OPENING), (503, b"{}"), (502, b""), (504, b""), (200, AWAY), (200, AWAY), (200, NEXT)]
    asked: list[tuple[float, str]] = []

    async def feed(request: web.Request) -> web.Response:
        asked.append((time.monotonic(), request.headers.get("Last-Event-ID", "")))
        status, body = answers.pop(0)
        return web.Response(status=status, body=body, content_type="text/event-stream")

    app = web.Application()
    app.router.add_get("/v1/works/feed", feed)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        told = []
        async with Api(f"http://127.0.0.1:{runner.addresses[0][1]}", "") as api:
            async for event in api.feed():
                told.append(event.name)
                if event.name == "change":
                    break
        assert told == ["init", "away", "away", "change"] and answers == []
        assert [place for _, place in asked] == ["", *["e-1"] * 6]
        assert all(later - earlier > 0.1 for (earlier, _), (later, _) in itertools.pairwise(asked))
    finally:
        await runner.cleanup()
