#!/bin/sh
# One would guess: whoever points fal-client at another host by its environment variables (FAL_RUN_HOST,
# FAL_QUEUE_RUN_HOST) has moved all of it.
# What happens: orders, polls and results go to the host that is named.  upload(), and so whatever uploads a file for an
# order, still connects to rest.fal.ai: its hosts for files are constants of the module.  The request carries FAL_KEY.
# Why it matters to us: a customer who has moved to Darkroom by these variables sends photos of persons, and a key of
# Darkroom's, to a service that they believe to have left.  docs/sdks.md names the two lines that prevent it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "fal-client==1.0.3"
cat > "$folder/seen.py" <<'PY'
import importlib.metadata
import socket
import sys
import threading

# A proxy that notes to which host a connection is wanted, and lets none through: nothing leaves this machine.
wanted = []
listening = socket.create_server(("127.0.0.1", 0))


def note():
    while True:
        connection, _ = listening.accept()
        with connection:
            wanted.append(connection.recv(4096).split()[1].decode())
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


threading.Thread(target=note, daemon=True).start()
import os

for name in ("http_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "https_proxy"):
    os.environ.pop(name, None)
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:%d" % listening.getsockname()[1]
os.environ |= {"FAL_KEY": "k", "FAL_RUN_HOST": "photos.example.org/fal/run", "FAL_QUEUE_RUN_HOST": "photos.example.org/fal/queue"}

import fal_client
import fal_client.client

fal_client.client.MAX_ATTEMPTS = 1  # it would try each ten times
print("fal-client", importlib.metadata.version("fal-client"))
client, seen = fal_client.SyncClient(), {}
for what, call in (
    ("submit", lambda: client.submit("ours/poster", {"prompt": "a fair"})),
    ("run", lambda: client.run("ours/poster", {"prompt": "a fair"})),
    ("upload", lambda: client.upload(b"\xff\xd8\xff", "image/jpeg", "a.jpg")),
):
    wanted.clear()
    try:
        call()
    except Exception as error:
        failure = type(error).__name__
    seen[what] = sorted(set(wanted))
    print(f"{what}() wanted a connection to {', '.join(seen[what])} ({failure}: the proxy lets none through)")
theirs = [host for host in seen["upload"] if "fal" in host.partition(":")[0]]
is_as_told = seen["submit"] == seen["run"] == ["photos.example.org:443"] and "rest.fal.ai:443" in theirs
sys.exit(0 if is_as_told else 1)
PY
"$folder/venv/bin/python" "$folder/seen.py"
