#!/bin/sh
# One would guess: an HTTP client sends a request once unless it is told to retry; at most it repeats one on a pooled
# connection that the server has closed while it was idle (RFC 9112, section 9.3.1).
# What happens: aiohttp's client sends a GET, PUT or DELETE a second time by itself when the connection ends before the
# answer, although the connection was opened for this very request and is not kept (force_close=True).  The caller sees
# one error, the server two requests.  POST and PATCH leave once.  There is no public argument against it; a client
# middleware that raises another class of error prevents it.
# Why it matters to us: a PUT that orders a job (cog's PUT /predictions/ID runs the same id again) costs money twice, and
# a GET that carries a code that is good once (WeChat's jscode2session) uses it up without an answer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "aiohttp==3.14.5"
"$folder/venv/bin/python" - <<'PY'
import asyncio
import sys

import aiohttp

EXPECTED = {"GET": 2, "PUT": 2, "DELETE": 2, "POST": 1, "PATCH": 1}


async def main() -> int:
    asked = []

    async def answer(reader, writer):  # reads the request to its end, as a server does that dies over it
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split()[0].decode())
        writer.close()

    async def raise_another_error(request, send):
        try:
            return await send(request)
        except aiohttp.ServerDisconnectedError as error:
            raise aiohttp.ClientConnectionError("sent once") from error

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/" % listening.sockets[0].getsockname()[1]

    async def seen(method, **options):
        asked.clear()
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, **options) as session:
            try:
                await session.request(method, url)
            except aiohttp.ClientError as error:
                return len(asked), type(error).__name__
        return len(asked), "an answer"

    print("aiohttp", aiohttp.__version__)
    wrong = 0
    for method, expected in EXPECTED.items():
        times, error = await seen(method)
        once, _ = await seen(method, middlewares=[raise_another_error])
        print(f"{method:7} the caller sees one {error}; the server {times} request(s); with the middleware {once}")
        wrong += times != expected or once != 1
    listening.close()
    return 1 if wrong else 0


sys.exit(asyncio.run(main()))
PY
