#!/bin/sh
# One would guess: replicate.run() polls a prediction until it has ended, whatever word its order is answered with, as
# prediction.wait() does; and a prediction that was cancelled raises.
# What happens: run() polls only while the status is "starting".  An order that is answered as "processing" ends run() at
# once with None, without an exception and without one poll, though the job goes on and succeeds.  A prediction that is
# cancelled meanwhile gives None too; one that fails raises ModelError.
# Why it matters to us: POST /replicate/v1/predictions must answer "starting" until a task has ended, also when a worker has
# it already: else its caller would have paid, and go on with None for a picture.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "replicate==1.0.7"
REPLICATE_POLL_INTERVAL=0.05 "$folder/venv/bin/python" - <<'PY'
import http.server
import importlib.metadata
import json
import sys
import threading

import replicate
from replicate.exceptions import ModelError

# What the order is answered with, what every question for it, and what is then expected of run(), and of how many polls.
CASES = [
    ("starting", "succeeded", "a picture", 1),
    ("processing", "succeeded", "None", 0),
    ("starting", "canceled", "None", 1),
    ("starting", "failed", "ModelError", 1),
    ("succeeded", "succeeded", "a picture", 0),
]
now = {"status": "", "later": "", "polls": 0}


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.tell(now["status"])

    def do_GET(self):
        now["polls"] += 1
        self.tell(now["later"])

    def tell(self, status):
        ended = status == "succeeded"
        body = json.dumps({
            "id": "p1", "model": "o/n", "version": "v", "status": status, "input": {}, "logs": "",
            "output": "https://example.org/picture.png" if ended else None,
            "error": "It broke." if status == "failed" else None, "urls": {"get": "x", "cancel": "x"},
        }).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = replicate.Client(api_token="t", base_url=f"http://127.0.0.1:{server.server_port}")
print("replicate", importlib.metadata.version("replicate"))
wrong = 0
for status, later, expected, polls in CASES:
    now.update(status=status, later=later, polls=0)
    try:
        output = client.run("o/n", input={"prompt": "a fair"})
        seen = "None" if output is None else "a picture"
    except ModelError:
        seen = "ModelError"
    print(f"ordered: {status:10} asked: {later:9} run() gave {seen} after {now['polls']} poll(s)")
    wrong += (seen, now["polls"]) != (expected, polls)
server.shutdown()
sys.exit(1 if wrong else 0)
PY
