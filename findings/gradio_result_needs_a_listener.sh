#!/bin/sh
# One would guess: POST /gradio_api/call/NAME hands a job in and gives its id, so GET /call/NAME/ID may be read later, or again
# after a broken connection.
# What happens: the id is good for one listener.  Whoever stops reading while the job waits or runs loses it: asked again, the
# same address answers HTTP 200 with an event stream that says "404: Not Found", though the model may have run to its end.
# Why it matters to us: an order to a Gradio app is no remote job that any worker can go on with; its stream must be held, and a
# worker that dies has lost the picture.
set -eu
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check gradio==6.31.0 2> pip.log || { cat pip.log; exit 1; }
cat > app.py <<'PY'
import pathlib
import sys
import time

import gradio as gr


def slowly(text):
    pathlib.Path("began").touch()
    time.sleep(2)
    pathlib.Path("ended").touch()
    return text.upper()


gr.Interface(slowly, "text", "text", api_name="slowly").queue().launch(
    server_name="127.0.0.1", server_port=int(sys.argv[1])
)
PY
cat > seen.py <<'PY'
import http.client
import importlib.metadata
import json
import pathlib
import sys
import time
import urllib.request

CALL = f"http://127.0.0.1:{sys.argv[1]}/gradio_api/call/slowly"


def until(holds):
    end = time.monotonic() + 90
    while not holds():
        if time.monotonic() > end:
            sys.exit("waited in vain")
        time.sleep(0.1)


def is_up():
    try:
        return urllib.request.urlopen(CALL.rsplit("/call", 1)[0] + "/info", timeout=5).status == 200
    except OSError:
        return False


def hand_in():
    body = json.dumps({"data": ["hello"]}).encode()
    request = urllib.request.Request(CALL, body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=10))["event_id"]


def read(event_id):
    with urllib.request.urlopen(f"{CALL}/{event_id}", timeout=20) as answer:
        try:
            return answer.status, answer.read().decode()
        except http.client.IncompleteRead as cut:
            return answer.status, cut.partial.decode() + " (and the stream breaks off)"


until(is_up)
print("gradio", importlib.metadata.version("gradio"))
heard = read(hand_in())
print("held to its end:       ", heard[0], heard[1].split())
for name in ("began", "ended"):
    pathlib.Path(name).unlink()
event_id = hand_in()
stream = urllib.request.urlopen(f"{CALL}/{event_id}", timeout=20)
until(pathlib.Path("began").exists)
stream.close()
until(pathlib.Path("ended").exists)
again = read(event_id)
print("broken off, asked again:", again[0], again[1].split(), "(the model ran to its end)")
good = "HELLO" in heard[1] and again[0] == 200 and "HELLO" not in again[1] and "404" in again[1]
sys.exit(0 if good else "this has changed")
PY
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1 env/bin/python app.py "$port" > app.log 2>&1 &
server=$!
env/bin/python seen.py "$port"
